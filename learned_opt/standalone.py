"""A trained optimizer as an ordinary optax transformation, for anybody's training loop.

Inside this toolkit an agent tells an optimizer how far training is and which neurons are
dormant (``learned_opt.base``). Elsewhere nobody does: here the optimizer counts its own
updates, keeps its own key and takes every neuron for neutral, and needs no more than
``tx.init(params)`` and ``tx.update(grads, state, params)``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt import base

# ``plain`` is a network of another kind, a classifier: like a critic it is given no noise.
ROLES = ("actor", "critic", "plain")
# Flax keeps trainable weights under this name; it tells nothing.
_COLLECTION = "params"

Count = int | jax.Array
Role = str | Callable[[base.Params], str] | None


class StandaloneState(NamedTuple):
    """State of a standalone optimizer.

    Attributes:
      inner: the optimizer's own state.
      num_updates: int32 scalar, made so far, those that were skipped apart.
      num_skipped: int32 scalar, updates skipped so far because a number was not finite.
      key_words: uint32 ``[2]``, the key of all draws; plain words, which any code can save.
      params: a copy of the parameters where the optimizer keeps one, else None.
    """

    inner: optax.OptState
    num_updates: jax.Array
    num_skipped: jax.Array
    key_words: jax.Array
    params: base.Params


class Schedule(NamedTuple):
    """How updates make up a training run; counts may be traced.

    Attributes:
      total_updates: of the whole run; >= 1.
      updates_per_batch: made with one batch of data (in PPO: epochs x minibatches); >= 1.
      epochs_per_batch: passes over a batch; divides ``updates_per_batch``.
    """

    total_updates: Count
    updates_per_batch: Count
    epochs_per_batch: Count

    def proportions(self, num_updates: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(training proportion, batch proportion), both in [0, 1].

        As ``learned_opt.base`` defines them; beyond ``total_updates`` training stays at 1.
        """
        iterations = -(-self.total_updates // self.updates_per_batch)
        iteration = num_updates // self.updates_per_batch
        minibatches = self.updates_per_batch // self.epochs_per_batch
        epoch = (num_updates % self.updates_per_batch) // minibatches
        training = jnp.minimum(_share(iteration, iterations - 1), 1.0)
        return training, _share(epoch, self.epochs_per_batch - 1)


def _share(part: Count, whole: Count) -> jax.Array:
    """part / whole as float32, 0 / 0 being 0."""
    return jnp.asarray(part, jnp.float32) / jnp.maximum(jnp.asarray(whole, jnp.float32), 1.0)


def is_traced(value: Any) -> bool:
    """Whether a value is not known yet, within a function that JAX is tracing."""
    return isinstance(value, jax.core.Tracer)


def make_schedule(
    total_updates: Count | None, updates_per_batch: Count, epochs_per_batch: Count | None
) -> Schedule:
    """A checked ``Schedule``; ``epochs_per_batch`` None makes every update an epoch.

    Values that are traced (``optax.inject_hyperparams`` under ``jit``) cannot be checked.

    Raises:
      ValueError: a count is missing, below 1, or does not fit the others.
    """
    if total_updates is None:
        raise ValueError(
            "as_optax needs total_updates, the number of updates of the whole run (in PPO: "
            "iterations x epochs x minibatches): as_optax(total_updates=...)"
        )
    epochs = updates_per_batch if epochs_per_batch is None else epochs_per_batch
    schedule = Schedule(total_updates, updates_per_batch, epochs)
    for name, value in schedule._asdict().items():
        if is_traced(value):
            continue
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if any(map(is_traced, schedule)):
        return Schedule(*(jnp.asarray(v, jnp.int32) if is_traced(v) else int(v) for v in schedule))
    schedule = Schedule(*map(int, schedule))
    if schedule.updates_per_batch > schedule.total_updates:
        raise ValueError(
            f"updates_per_batch={schedule.updates_per_batch} is more than "
            f"total_updates={schedule.total_updates}, which counts the whole run"
        )
    if schedule.updates_per_batch % schedule.epochs_per_batch:
        raise ValueError(
            f"updates_per_batch={schedule.updates_per_batch} (epochs x minibatches) is not a "
            f"multiple of epochs_per_batch={schedule.epochs_per_batch}"
        )
    return schedule


def make_standalone(
    tx: optax.GradientTransformationExtraArgs,
    schedule: Schedule,
    *,
    role: Role = None,
    actor_key: str = "actor",
    keep_params: bool = False,
    skip_nonfinite: bool = True,
    seed: Count = 0,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer of this toolkit; see ``TrainedOptimizer.as_optax``.

    Context that a caller does give (``dormancy=...``, ``loss=...``) goes to the optimizer.
    """
    if isinstance(role, str) and role not in ROLES:
        raise ValueError(f"role must be one of {ROLES}, or a function of params, got {role!r}")
    naming = _Naming(role, actor_key)
    made = _Standalone(
        tx, schedule, naming, _InnerState(tx, naming), keep_params, skip_nonfinite, seed
    )
    return optax.GradientTransformationExtraArgs(made.init, made.update)


class _Standalone(NamedTuple):
    """What ``make_standalone`` makes: its arguments, and the two functions of a transformation."""

    tx: optax.GradientTransformationExtraArgs
    schedule: Schedule
    naming: "_Naming"
    inner_state: "_InnerState"
    keep_params: bool
    skip_nonfinite: bool
    seed: Count

    def init(self, params: base.Params) -> StandaloneState:
        key = jax.random.key(self.seed, impl="threefry2x32")
        key = jax.random.fold_in(key, _fingerprint(self.naming.rename(params, params)))
        return StandaloneState(
            inner=self.inner_state.init(params),
            num_updates=jnp.int32(0),
            num_skipped=jnp.int32(0),
            key_words=jax.random.key_data(key),
            # A copy, as the caller may donate or overwrite its own.
            params=jax.tree.map(jnp.array, params) if self.keep_params else None,
        )

    def update(
        self,
        grads: base.Params,
        state: StandaloneState,
        params: base.Params = None,
        **given: Any,
    ) -> tuple[base.Params, StandaloneState]:
        if self.keep_params and params is None:
            params = state.params
        naming, inner_state = self.naming, self.inner_state
        # Without params the optimizer itself says whether it needs them.
        named_params = None if params is None else naming.rename(params, grads)
        before = inner_state.named(state.inner, grads if params is None else params)
        context = self._context(grads, state, given)
        named, inner = self.tx.update(naming.rename(grads, grads), before, named_params, **context)
        updates = naming.restore(named, grads)
        inner = inner_state.like_params(inner, grads if params is None else params)
        made = state._replace(inner=inner, num_updates=state.num_updates + 1)
        if self.skip_nonfinite:
            told = {name: given[name] for name in base.CONTEXT_NAMES if name in given}
            is_sound = _all_finite((grads, told, updates))
            skipped = state._replace(num_skipped=state.num_skipped + 1)
            nothing = jax.tree.map(jnp.zeros_like, updates)
            updates, made = _select(is_sound, (updates, made), (nothing, skipped))
        if self.keep_params:
            made = made._replace(params=optax.apply_updates(params, updates))
        return updates, made

    def _context(
        self, grads: base.Params, state: StandaloneState, given: dict[str, Any]
    ) -> dict[str, Any]:
        """What the optimizer is told: what the caller gave, else what is counted and kept here."""
        key = jax.random.wrap_key_data(state.key_words, impl="threefry2x32")
        training, batch = self.schedule.proportions(state.num_updates)
        context = {
            "key": jax.random.fold_in(key, state.num_updates),
            "training_proportion": training,
            "batch_proportion": batch,
            "dormancy": _neutral(grads),
            **given,
        }
        for name in ("dormancy", "noise"):
            if context.get(name) is not None:
                given_like_grads = base.unmasked(context[name], grads)
                context[name] = self.naming.rename(given_like_grads, grads)
        return context


def with_neutral_dormancy(optimizer: base.LearnedOptimizer) -> base.LearnedOptimizer:
    """The same optimizer, for which no neuron is dormant: what standalone use costs it."""

    def transform(theta: base.MetaParams) -> optax.GradientTransformationExtraArgs:
        tx = optimizer.transform(theta)

        def update(grads, state, params=None, **context):
            neutral = {**context, "dormancy": _neutral(grads)}
            return tx.update(grads, state, params, **neutral)

        return optax.GradientTransformationExtraArgs(tx.init, update)

    return base.LearnedOptimizer(optimizer.init, transform)


def _all_finite(tree: Any) -> jax.Array:
    """Whether no number in the tree's floating-point arrays is NaN or infinite: a scalar."""
    numbers = [
        leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    return jnp.all(jnp.array([True, *(jnp.all(jnp.isfinite(leaf)) for leaf in numbers)]))


def _select(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _neutral(like: base.Params) -> base.Params:
    return jax.tree.map(lambda _: jnp.ones((), jnp.float32), like)


def _fingerprint(params: base.Params) -> jax.Array:
    """A uint32 of the parameters' bits.

    Runs that start from other parameters draw other noise, also where they are one vmapped
    program with one seed, and so do an actor and a critic with an optimizer each.
    """
    total = jnp.uint32(0)
    for leaf in jax.tree.leaves(params):
        bits = jax.lax.bitcast_convert_type(jnp.asarray(leaf, jnp.float32), jnp.uint32)
        # Odd weights tell a permutation of the same numbers apart.
        weights = 2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1
        total = total * jnp.uint32(31) + jnp.sum(bits.reshape(-1) * weights, dtype=jnp.uint32)
    return total


class _Naming(NamedTuple):
    """Gives a parameter tree of any kind the names that optimizers of this toolkit read.

    Attributes:
      role: of the whole tree, or a function that tells it from the tree; None where the
        tree holds actor and critic by name.
      actor_key: the name that the actor's parameters have in such a tree.
    """

    role: Role
    actor_key: str

    def _paths(self, like: base.Params) -> list[tuple[str, ...]]:
        """For each leaf its names from the network down."""
        paths = base.leaf_names(like)
        while paths and all(len(path) > 1 and path[0] == _COLLECTION for path in paths):
            paths = [path[1:] for path in paths]
        if not paths:
            return []
        role = self.role(like) if callable(self.role) else self.role
        if role is None:
            return [
                ("actor", *path[1:]) if path[:1] == (self.actor_key,) else path or ("parameter",)
                for path in paths
            ]
        if role not in ROLES:
            raise ValueError(f"role(params) must give one of {ROLES}, got {role!r}")
        return [(role, *path) for path in paths]

    def rename(self, tree: Any, like: base.Params) -> Any:
        """A tree like ``like`` as nested dicts: ``{'actor': {layer: {...}}, ...}``.

        A tree without arrays stays what it is: masked as a whole, or optax's placeholder for
        parameters, by which ``optax.tree_utils.tree_map_params`` knows their places.
        """
        leaves, treedef = jax.tree.flatten(tree)
        expected: Any = jax.tree.structure(like)
        if expected != treedef:
            raise ValueError(f"expected a tree like params, {expected}, got {treedef}")
        if not leaves:
            return tree
        named: dict[str, Any] = {}
        for path, leaf in zip(self._paths(like), leaves, strict=True):
            branch = named
            for name in path[:-1]:
                branch = branch.setdefault(name, {})
            if path[-1] in branch:
                raise ValueError(f"params has two entries of the name {'/'.join(path)}")
            branch[path[-1]] = leaf
        return named

    def restore(self, named: Any, like: base.Params) -> base.Params:
        """The inverse of ``rename``."""
        leaves, paths = [], self._paths(like)
        if not paths:
            return named
        for path in paths:
            branch = named
            for name in path:
                branch = branch[name]
            leaves.append(branch)
        return jax.tree.unflatten(jax.tree.structure(like), leaves)


class _InnerState(NamedTuple):
    """The wrapped optimizer's state, which it makes for a tree of its names.

    What is a tree like the parameters in there (Adam's moments) is held as one like the
    caller's, so that ``optax.tree_utils.tree_map_params`` knows it again.

    Attributes:
      tx: the optimizer.
      naming: gives parameters their names.
    """

    tx: optax.GradientTransformationExtraArgs
    naming: _Naming

    def init(self, params: base.Params) -> optax.OptState:
        return self.like_params(self.tx.init(self.naming.rename(params, params)), params)

    def like_params(self, state: optax.OptState, params: base.Params) -> optax.OptState:
        """A state with the optimizer's names as one with the caller's."""
        return self._converted(self.naming.restore, state, params)

    def named(self, state: optax.OptState, params: base.Params) -> optax.OptState:
        """The inverse of ``like_params``."""
        return self._converted(self.naming.rename, state, params)

    def _converted(
        self,
        convert: Callable[[Any, base.Params], Any],
        state: optax.OptState,
        params: base.Params,
    ) -> optax.OptState:
        if not jax.tree.leaves(params):
            return state  # nothing was renamed
        named = self.naming.rename(params, params)
        structure: Any = jax.tree.structure(named)

        def is_like_params(node: Any) -> bool:
            return jax.tree.structure(node) == structure

        return jax.tree.map(
            lambda place, part: convert(part, params) if is_like_params(place) else part,
            jax.eval_shape(self.tx.init, named),
            state,
            is_leaf=is_like_params,
        )
