"""The optimizers that papers define, one file each, in JAX alone."""
