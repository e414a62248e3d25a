"""VeLO (google/learned_optimization, Apache-2.0): its published weights."""
