"""Optimizers on tasks, chunk by chunk: evaluation, and tuning, which is one too."""
