"""Films of agents: an episode watched, and drawn."""
