"""Agents: PPO and A2C as one training step that takes any optimizer."""

from agents.actor_critic import ActorCriticAgent, make_agent
from agents.base import Agent, Metrics, TrainState
from agents.config import AgentConfig

__all__ = ["ActorCriticAgent", "Agent", "AgentConfig", "Metrics", "TrainState", "make_agent"]
