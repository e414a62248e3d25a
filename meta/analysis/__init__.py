"""What optimizers do while they train agents."""
