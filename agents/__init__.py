"""Agents: PPO, A2C and supervised learning, each a training step that takes any optimizer."""

from agents.actor_critic import ActorCriticAgent, make_agent
from agents.base import Agent, Metrics, TrainState
from agents.config import AgentConfig
from agents.supervised import SupervisedAgent, SupervisedConfig, make_supervised

__all__ = [
    "ActorCriticAgent",
    "Agent",
    "AgentConfig",
    "Metrics",
    "SupervisedAgent",
    "SupervisedConfig",
    "TrainState",
    "make_agent",
    "make_supervised",
]
