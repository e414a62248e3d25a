"""Agents' experience as RLDS datasets."""
