"""The cost of one optimizer update, alone: learned ones in Adam's, and inside other code."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import learned_opt
from learned_opt.base import Params
from learned_opt.files.serialization import TrainedOptimizer
from meta.benchmarks import inner_loops

UPDATES = 200  # in one compiled loop


def example_params() -> Params:
    """Actor and critic for Brax's Ant, two layers of 64: 12,489 parameters in 12 tensors."""

    def network(outputs: int) -> Params:
        sizes = (27, 64, 64, outputs)
        return {
            f"Dense_{i}": {"kernel": 0.1 * jnp.ones(sizes[i : i + 2]), "bias": jnp.zeros(size)}
            for i, size in enumerate(sizes[1:])
        }

    return {"actor": network(8), "critic": network(1)}


def report(repeats: int) -> str:
    """A Markdown table: every optimizer as agents use it, OPEN also as other code does."""
    params = example_params()
    trained = {
        "adam": learned_opt.load("adam"),
        "open": _random("open", initial_theta="random"),
        "optim4rl": _random("optim4rl"),
        "star": _random("star"),
        "velo (random theta)": _random("velo", total_updates=100_000),
    }
    works = [(name, UPDATES, _inside(one, params)) for name, one in trained.items()]
    standalone = trained["open"].as_optax(total_updates=100_000, updates_per_batch=32)
    works.append(("open, standalone", UPDATES, _loop(standalone, params, lambda _: {})))
    timings = inner_loops.interleaved(works, repeats)
    lines = ["| update of | compile s | ms | of adam's |", "| --- | --- | --- | --- |"]
    for timing in timings:
        lines.append(
            f"| {timing.name} | {timing.compile_seconds:.1f} | "
            f"{1e3 * timing.seconds / UPDATES:.3f} | {timing.seconds / timings[0].seconds:.1f} |"
        )
    device = jax.devices()[0]
    lines.append(
        f"\n{sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters in "
        f"{len(jax.tree.leaves(params))} tensors; loops of {UPDATES} updates, medians of {repeats} "
        f"repeats in turn; jax {jax.__version__}, {device.device_kind}."
    )
    return "\n".join(lines)


def _random(name: str, **options: Any) -> TrainedOptimizer:
    """With a random theta, which costs what a trained one does."""
    optimizer = learned_opt.make(name, **options)
    return TrainedOptimizer(optimizer, optimizer.init(jax.random.key(0)), {"name": name})


def _inside(trained: TrainedOptimizer, params: Params) -> Callable[[], Any]:
    """As an agent of this toolkit runs it: it is told where training stands."""
    key = jax.random.key(1)
    dormancy = jax.tree.map(lambda leaf: jnp.ones(leaf.shape[-1:]), params)

    def context(count: jax.Array) -> dict[str, Any]:
        return {
            "key": jax.random.fold_in(key, count),
            "training_proportion": count / UPDATES,
            "batch_proportion": count / UPDATES,
            "dormancy": dormancy,
            "loss": jnp.float32(1.0),
        }

    return _loop(trained.optimizer.transform(trained.theta), params, context)


def _loop(
    tx: optax.GradientTransformationExtraArgs,
    params: Params,
    context: Callable[[jax.Array], dict[str, Any]],
) -> Callable[[], Any]:
    """``UPDATES`` updates, compiled; the gradient is cheap and changes with the parameters."""
    tx = optax.with_extra_args_support(tx)

    @jax.jit
    def run(params: Params, state: Any) -> Params:
        def step(count: jax.Array, carry: Any) -> Any:
            params, state = carry
            grads = jax.tree.map(lambda p: 0.5 * p + 0.01, params)
            updates, state = tx.update(grads, state, params, **context(count))
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, UPDATES, step, (params, state))[0]

    state = jax.jit(tx.init)(params)
    return lambda: run(params, state)
