"""Outer loops: training optimizers, and measuring them."""
