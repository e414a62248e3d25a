"""What a run leaves in its folder, and how a long one tells of itself and outlives a crash."""
