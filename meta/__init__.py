"""Outer loops: training optimizers, and measuring them. Its functions are what launchers run."""

from meta.api import analyze, compare, evaluate, export_experience, train, tune, write_report

__all__ = [
    "analyze",
    "compare",
    "evaluate",
    "export_experience",
    "train",
    "tune",
    "write_report",
]
