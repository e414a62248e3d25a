"""How theta is trained: the outer loops, and the loop around them that a crash cannot hurt."""
