"""Environments: one protocol, and the suites that are adapted to it."""

from agents.environments.base import (
    Continuous,
    Discrete,
    Environment,
    EnvironmentSpec,
    TimeStep,
)
from agents.environments.registry import make, names, register_suite

__all__ = [
    "Continuous",
    "Discrete",
    "Environment",
    "EnvironmentSpec",
    "TimeStep",
    "make",
    "names",
    "register_suite",
]
