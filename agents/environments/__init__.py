"""Environments: one protocol, and the suites that are adapted to it."""

from agents.environments.base import (
    Continuous,
    Discrete,
    Environment,
    EnvironmentSpec,
    TaskEnvironment,
    TimeStep,
    reset_parallel,
)
from agents.environments.registry import make, names, register_suite

__all__ = [
    "Continuous",
    "Discrete",
    "Environment",
    "EnvironmentSpec",
    "TaskEnvironment",
    "TimeStep",
    "make",
    "names",
    "register_suite",
    "reset_parallel",
]
