"""OPEN (AlexGoldie/rl-learned-optimization, Apache-2.0): its published weights."""
