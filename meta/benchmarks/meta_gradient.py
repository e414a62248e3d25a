"""Speed and memory of meta-gradient training: meta-steps as the Optim4RL paper takes them."""

import resource
from typing import Any, NamedTuple

import jax

import learned_opt
from agents import AgentConfig, environments, make_agent
from meta.benchmarks import inner_loops
from meta.engine.memory import tree_bytes
from meta.training.inner_loop import REMAT, InnerLoop
from meta.training.pipeline import Pipeline


class Case(NamedTuple):
    """A task for N agents with an environment each, and the network and rate of the paper."""

    env: str
    num_agents: int
    convolutions: tuple[tuple[int, int], ...]
    widths: tuple[int, ...]
    learning_rate: float


CASES = {
    "catch": Case("catch", 64, (), (256,), 1e-3),
    "big_dense_long": Case("gridworld/big_dense_long", 512, ((16, 2),), (32,), 3e-3),
}


def make_inner_loop(
    case: Case, inner_updates: int = 4, remat: str = "update", kernel: str = "auto"
) -> InnerLoop:
    """The training of a case's agents: A2C, rollouts of 20 steps, Optim4RL."""
    config = AgentConfig(
        algorithm="a2c",
        total_timesteps=20 * 4 * 64,
        num_envs=1,
        num_steps=20,
        num_epochs=1,
        num_minibatches=1,
        discount=0.995,
        normalize_advantages=False,
        max_grad_norm=0.0,
        network="shared",
        equal_hidden=False,
        convolutions=case.convolutions,
        widths=case.widths,
    )
    optimizer = learned_opt.make(
        "optim4rl", learning_rate=case.learning_rate, gradient_clip=None, kernel=kernel
    )
    agent = make_agent(config, environments.make(case.env))
    return InnerLoop(agent, optimizer, inner_updates, remat, False, 0.0)


def make_pipeline(case: Case, *options: Any) -> Pipeline:
    """A case's agents with an inner loop of ``make_inner_loop``'s options."""
    return Pipeline(make_inner_loop(case, *options), case.num_agents, 64)


def report(name: str, repeats: int) -> str:
    """Measures one of ``CASES``; a Markdown table of speed, and one of memory."""
    case = CASES[name]
    pipeline = make_pipeline(case)
    theta = learned_opt.make("optim4rl").init(jax.random.key(0))
    held = [pipeline.start(jax.random.key(1))]
    number = [0]

    def run() -> object:
        held[0], gradients, _ = pipeline.advance(theta, held[0], number[0], jax.random.key(2))
        number[0] += 1
        return gradients

    run()  # two compilations: of the meta-step, and of a reset at the second one
    steps = pipeline.env_steps_per_meta_step
    timing = inner_loops.interleaved([(f"meta-step, {name}", steps, run)], repeats)[0]
    lines = [
        "| work | agents | at a time | median s | env steps/s | peak of the process |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| {timing.name} | {case.num_agents} | {pipeline.chunk} x {pipeline.num_devices} | "
        f"{timing.seconds:.2f} | {timing.env_steps_per_second:,.0f} | {_peak_mib():,.0f} MiB |",
        "",
        "| inner updates K | kept | temporary MiB | of it states kept | beyond these |",
        "| --- | --- | --- | --- | --- |",
    ]
    small = case._replace(num_agents=2 * pipeline.num_devices)
    ways = [(remat, remat, "xla") for remat in REMAT]
    if make_inner_loop(case).recorder is not None:  # what the table above ran with
        ways.insert(0, ("gradients recorded", "update", "auto"))
    for way, remat, kernel in ways:
        for inner_updates in (4, 16, 64):
            made = make_pipeline(small, inner_updates, remat, kernel)
            temporary = made.lower().compile().memory_analysis().temp_size_in_bytes / 2**20
            kept_bytes = _kept_bytes(made, recorded=kernel == "auto")
            kept = made.chunk * inner_updates * kept_bytes / 2**20
            lines.append(
                f"| {inner_updates} | {way} | {temporary:,.1f} | {kept:,.1f} | "
                f"{temporary - kept:,.1f} |"
            )
    device = jax.devices()[0]
    lines.append(
        f"\njax {jax.__version__}, {len(jax.devices())} x {device.device_kind}; medians of "
        f"{repeats} repeats. Memory by XLA's analysis, of {small.num_agents} agents' program on a "
        "device."
    )
    return "\n".join(lines)


def _kept_bytes(pipeline: Pipeline, recorded: bool) -> int:
    """What an agent's iteration leaves for the backward pass: its gradient, optimizer state."""
    state = pipeline.agent_shapes
    return tree_bytes(state.params) + (0 if recorded else tree_bytes(state.opt_state))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
