"""Command lines: absl mains and nothing else."""
