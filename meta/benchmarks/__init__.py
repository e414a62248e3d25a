"""How fast inner loops, meta-gradients and single updates are here."""
