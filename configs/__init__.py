"""Experiments: one file each, made of the blocks in ``configs.blocks``."""
