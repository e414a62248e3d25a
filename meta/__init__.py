"""Outer loops: training optimizers, and measuring them. Its functions are what launchers run."""

from meta.api import analyze, compare, evaluate, export_experience, train, tune, write_report
from meta.config_files import read_config

__all__ = [
    "analyze",
    "compare",
    "evaluate",
    "export_experience",
    "read_config",
    "train",
    "tune",
    "write_report",
]
