"""Many inner loops at once, on all devices: tasks, their agents, and what they cost."""
