"""Optim4RL (sail-sg/optim4rl, Apache-2.0): its published weights."""
