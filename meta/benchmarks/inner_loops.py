"""Measuring speed: medians of repeats, compile time apart, rivals in one process."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import learned_opt
from agents import ActorCriticAgent, AgentConfig, environments, make_agent
from agents.base import TrainState
from learned_opt.base import LearnedOptimizer
from meta.engine.population import Engine


class Timing(NamedTuple):
    """One measured piece of work.

    Attributes:
      name: what was run.
      compile_seconds: the first call less a later one.
      seconds: median of the repeats.
      env_steps_per_second: 0 where no environment steps are taken.
    """

    name: str
    compile_seconds: float
    seconds: float
    env_steps_per_second: float


def interleaved(works: Sequence[tuple[str, int, Callable[[], Any]]], repeats: int) -> list[Timing]:
    """Times several works in turn, A B A B ..., so that a drift of the machine hits all.

    Args:
      works: (name, environment steps, a function that runs it and waits for the result).
      repeats: of each, after the call that compiles.
    """
    first = [_seconds(run) for _, _, run in works]
    rounds = np.array([[_seconds(run) for _, _, run in works] for _ in range(repeats)])
    medians = np.median(rounds, axis=0)
    return [
        Timing(name, max(0.0, begin - median), median, steps / median)
        for (name, steps, _), begin, median in zip(works, first, medians, strict=True)
    ]


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


def inner_loops(
    env: str, optimizers: dict[str, LearnedOptimizer], config: AgentConfig, iterations: int
) -> list[tuple[str, int, Callable[[], Any]]]:
    """One agent's training with each optimizer, from where the call before left it."""
    agent = make_agent(config, environments.make(env))
    return [
        (f"inner loop, {name}", iterations * agent.steps_per_iteration, run)
        for name, optimizer in optimizers.items()
        for run in [_inner_loop(agent, optimizer, iterations)]
    ]


def _inner_loop(
    agent: ActorCriticAgent, optimizer: LearnedOptimizer, iterations: int
) -> Callable[[], Any]:
    theta = optimizer.init(jax.random.key(0))

    @jax.jit
    def advance(state: TrainState) -> TrainState:
        tx = optimizer.transform(theta)
        step = lambda _, state: agent.train_step(tx, state)[0]  # noqa: E731
        return jax.lax.fori_loop(0, iterations, step, state)

    held: list[TrainState] = []

    def run() -> TrainState:
        if not held:
            start = jax.jit(lambda key: agent.init(key, optimizer.transform(theta)))
            held.append(start(jax.random.key(1)))
        held[0] = advance(held[0])
        return held[0]

    return run


def generation(
    env: str, optimizer: LearnedOptimizer, config: AgentConfig, members: int
) -> tuple[str, int, Callable[[], Any]]:
    """The inner runs of one generation, on all devices."""
    agent = make_agent(config, environments.make(env))
    engine = Engine(optimizer, agent)
    thetas = jax.vmap(optimizer.init)(jax.random.split(jax.random.key(0), members))
    keys = jax.random.split(jax.random.key(1), 1)[jnp.zeros(members, int)]
    steps = agent.num_iterations * agent.steps_per_iteration
    name = f"generation of {members} members x {steps}"
    return name, members * steps, lambda: engine.run(thetas, keys).episode_return


def report(repeats: int, iterations: int, members: int, timesteps: int) -> str:
    """The standard comparison, on Breakout with the OPEN paper's PPO, as a Markdown table."""
    optimizers = {
        "adam": learned_opt.make("adam", preset="breakout"),
        "open": learned_opt.make("open", initial_theta="random"),
    }
    config = AgentConfig(total_timesteps=timesteps)
    works = inner_loops("breakout", optimizers, config, iterations)
    timings = interleaved(works, repeats)
    timings += interleaved([generation("breakout", optimizers["open"], config, members)], repeats)
    lines = [
        "| work | compile s | median s | env steps/s | of adam |",
        "| --- | --- | --- | --- | --- |",
    ]
    adam = timings[0].env_steps_per_second
    for timing in timings:
        lines.append(
            f"| {timing.name} | {timing.compile_seconds:.1f} | {timing.seconds:.2f} | "
            f"{timing.env_steps_per_second:,.0f} | {timing.env_steps_per_second / adam:.2f} |"
        )
    device = jax.devices()[0]
    lines.append(
        f"\njax {jax.__version__}, {len(jax.devices())} x {device.device_kind}; medians of "
        f"{repeats} repeats, works of a group in turn."
    )
    return "\n".join(lines)
