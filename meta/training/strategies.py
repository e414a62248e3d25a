"""Strategies of evosax by name, behind one interface.

evosax minimises; here fitness is maximised, and the sign is turned in one place.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import evosax.algorithms as evosax_algorithms
import jax
import jax.numpy as jnp
import optax
from evosax.algorithms.distribution_based.base import DistributionBasedAlgorithm
from evosax.algorithms.population_based import population_based_algorithms
from evosax.core import fitness_shaping
from jax.flatten_util import ravel_pytree

from learned_opt.base import MetaParams
from learned_opt.names import did_you_mean

# Those of evosax that cannot train a theta, and why.
_UNFIT = {
    "DiffusionEvolution": "it starts from noise around 0 and not from theta, with no sigma, and "
    "ends after a number of generations that is its own",
    "LM_MA_ES": "it gives NaN where the population has more than twice as many members as theta "
    "has numbers, and learns directions from samples that it has not ranked",
    "RandomSearch": "it draws all members alike, without regard to what was found, from a "
    "function that no config can name",
    "SV_CMA_ES": "it moves several means apart, and a run has one theta",
    "SV_Open_ES": "it moves several means apart, and a run has one theta",
}
_PICKLED = "it reads pickled weights when it is made, and nothing is unpickled here"
# They compare a generation's fitness with that of earlier ones; a rank says nothing there.
_REMEMBERS_FITNESS = (
    "GradientlessDescent", "HillClimbing", "SimulatedAnnealing", "iAMaLGaM_Full",
    "iAMaLGaM_Univariate",
)  # fmt: skip
# evosax starts these from another covariance than sigma says: xNES from sigma to the fourth,
# these of iAMaLGaM from 1 and a floor under it.
_FIRST_STATE: dict[str, Callable[[Any, float], Any]] = {
    "xNES": lambda state, sigma: state.replace(B=jnp.eye(len(state.mean))),
    "iAMaLGaM_Full": lambda state, sigma: state.replace(C=sigma**2 * state.C),
    "iAMaLGaM_Univariate": lambda state, sigma: state.replace(C=sigma**2 * state.C),
}
_WITHOUT_FLOOR = ("iAMaLGaM_Full", "iAMaLGaM_Univariate")


def names() -> list[str]:
    """The strategies that can be used."""
    return sorted(set(evosax_algorithms.algorithms) - set(left_out()))


def left_out() -> dict[str, str]:
    """The strategies of evosax that cannot be used, and why, by name."""
    pickled = {
        name: _PICKLED
        for name, constructor in evosax_algorithms.algorithms.items()
        if "params_path" in inspect.signature(constructor).parameters
    }
    return dict(sorted({**_UNFIT, **pickled}.items()))


def pairwise_shaping(population: Any, fitness: jax.Array, state: Any, params: Any) -> jax.Array:
    """Antithetic task sampling: the better of a pair counts 1, the other 0, ties a half.

    Pairs are (i, i + P / 2), as antithetic strategies order their populations. Lower raw
    fitness is better, and so is a lower shaped one.
    """
    del population, state, params
    first, second = jnp.split(fitness, 2)
    better = jnp.heaviside(second - first, 0.5)
    return -jnp.concatenate([better, 1.0 - better])


SHAPINGS: dict[str, Callable] = {
    "centered_rank": fitness_shaping.centered_rank_fitness_shaping_fn,
    "pairwise": pairwise_shaping,
    "standardize": fitness_shaping.standardize_fitness_shaping_fn,
    "none": fitness_shaping.identity_fitness_shaping_fn,
}


class Strategy:
    """One evosax strategy over the meta-parameters.

    Args:
      name: an evosax algorithm, e.g. ``Open_ES``.
      population_size: P.
      theta: an example of the meta-parameters.
      optimizer: of the mean, for strategies that follow a gradient estimate.
      sigma: schedule of the perturbations' standard deviation by generation; strategies
        that adapt theirs start from its first value, and those that keep a population
        spread their first one by it. The radius of ``GradientlessDescent`` is drawn between
        a 200th of it and itself.
      shaping: a name in ``SHAPINGS``, or empty for the strategy's own. Strategies that
        recombine by weights of their own (CMA-ES, SNES, ...) keep those, and those that
        compare fitness between generations (populations, ``HillClimbing``, ...) see it
        unshaped.
      options: further arguments of the strategy's constructor or fields of its parameters.

    Raises:
      ValueError: unknown name or option, or a population that does not fit.
    """

    def __init__(
        self,
        name: str,
        population_size: int,
        theta: MetaParams,
        *,
        optimizer: optax.GradientTransformation,
        sigma: Callable[[Any], Any],
        shaping: str = "centered_rank",
        options: dict[str, Any] | None = None,
    ):
        _check(name, population_size, shaping)
        constructor = evosax_algorithms.algorithms[name]
        accepted = inspect.signature(constructor).parameters
        arguments: dict[str, Any] = {}
        if "std_schedule" in accepted:
            arguments["std_schedule"] = sigma
            if "optimizer" in accepted:
                arguments["optimizer"] = optimizer
        if name in _WITHOUT_FLOOR:
            arguments["std_schedule"] = optax.constant_schedule(0.0)
        if shaping and _takes_shaping(name, accepted):
            arguments["fitness_shaping_fn"] = SHAPINGS[shaping]
        options = dict(options or {})
        arguments.update({k: options.pop(k) for k in list(options) if k in accepted})
        try:
            self._algorithm = constructor(population_size, theta, **arguments)
        except (AssertionError, TypeError, ValueError) as error:
            raise ValueError(
                f"the strategy {name} cannot be made of population_size={population_size} and "
                f"its options: {error}"
            ) from error
        self._params = _with_fields(self._algorithm.default_params, name, sigma, options)
        self._sigma = float(sigma(0))
        self._first_state = _FIRST_STATE.get(name, lambda state, sigma: state)
        self.population_size = population_size

    def init(self, key: jax.Array, theta: MetaParams) -> Any:
        """The state of a search that starts at theta."""
        if isinstance(self._algorithm, DistributionBasedAlgorithm):
            state = self._algorithm.init(key, theta, self._params)
            return self._first_state(state, self._sigma)
        # A strategy that keeps a population starts from theta and perturbations of it, of
        # which nothing is known yet: all equally bad.
        init_key, noise_key = jax.random.split(key)
        flat, unravel = ravel_pytree(theta)
        noise = jax.random.normal(noise_key, (self.population_size, flat.size))
        population = flat + self._sigma * noise.at[0].set(0.0)
        fitness = jnp.full((self.population_size,), jnp.finfo(jnp.float32).max)
        return self._algorithm.init(init_key, jax.vmap(unravel)(population), fitness, self._params)

    def ask(self, key: jax.Array, state: Any) -> tuple[MetaParams, Any]:
        """A population of theta, leaves ``[P, ...]``, and the state."""
        return self._algorithm.ask(key, state, self._params)

    def tell(self, key: jax.Array, population: MetaParams, fitness: jax.Array, state: Any) -> Any:
        """The state after a generation; higher fitness ``[P]`` is better, NaN is worst."""
        cost = worst_for_nan(-fitness)
        state, _ = self._algorithm.tell(key, population, cost, state, self._params)
        return state

    def mean(self, state: Any) -> MetaParams:
        """The search's current theta: its mean, or the best of its population."""
        if isinstance(self._algorithm, DistributionBasedAlgorithm):
            return self._algorithm.get_mean(state)
        return self._algorithm.get_best_solution(state)


def worst_for_nan(cost: jax.Array) -> jax.Array:
    """Replaces NaN in costs ``[P]`` by something worse than all that are finite."""
    failed = ~jnp.isfinite(cost)
    worst = jnp.max(jnp.where(failed, -jnp.inf, cost))
    worst = jnp.where(jnp.isfinite(worst), worst, 0.0)  # all failed: all equal
    best = jnp.min(jnp.where(failed, worst, cost))
    return jnp.where(failed, worst + (worst - best) + 1.0, cost)


def _takes_shaping(name: str, accepted: Mapping[str, inspect.Parameter]) -> bool:
    """Whether a strategy's update stays right with another shaping than its own."""
    if name in population_based_algorithms or name in _REMEMBERS_FITNESS:
        return False
    parameter = accepted.get("fitness_shaping_fn")
    own = fitness_shaping.weights_fitness_shaping_fn
    return parameter is not None and parameter.default is not own


def _check(name: str, population_size: int, shaping: str) -> None:
    # evosax knows some by another name than their class's: LES is LearnedES.
    registered = {made.__name__: known for known, made in evosax_algorithms.algorithms.items()}
    reason = left_out().get(registered.get(name, name))
    if reason:
        raise ValueError(
            f"the strategy {name} is not offered: {reason}; known: {', '.join(names())}"
        )
    if name not in names():
        raise ValueError(
            f"unknown strategy {name!r}{did_you_mean(name, names())}; known: {', '.join(names())}"
        )
    if shaping and shaping not in SHAPINGS:
        raise ValueError(
            f"unknown fitness shaping {shaping!r}{did_you_mean(shaping, list(SHAPINGS))}; "
            f"known: {', '.join(SHAPINGS)}"
        )
    if population_size < 2:
        raise ValueError(f"population_size must be at least 2, got {population_size}")
    if population_size % 2:
        raise ValueError(
            f"population_size={population_size} is odd, but perturbations come in antithetic "
            f"pairs: use {population_size - 1} or {population_size + 1}"
        )


def _with_fields(params: Any, name: str, sigma: Callable, options: dict[str, Any]) -> Any:
    """The strategy's parameters with the first sigma and the given fields."""
    fields = getattr(params, "__dataclass_fields__", {})
    unknown = sorted(set(options) - set(fields))
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has: {', '.join(fields)}")
    if name == "GradientlessDescent":
        widest = float(sigma(0))
        options = {"radius_min": widest / 200.0, "radius_max": widest, **options}
    if "std_init" in fields:
        options = {"std_init": jnp.asarray(sigma(0), jnp.float32), **options}
    return params.replace(**options)
