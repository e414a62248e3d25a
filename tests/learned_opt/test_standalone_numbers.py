"""What numbers do to a standalone optimizer: their dtypes, NaN, and devices that differ."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import learned_opt
from tests.learned_opt.trees import agent, assert_close, gradients, make
from tests.marks import slow_but

LEARNED = tuple(name for name in learned_opt.names() if not learned_opt.is_handcrafted(name))
KERNELS = [
    (name, kernel)
    for name in LEARNED
    for kernel in (("auto",) if name in ("star", "velo") else ("auto", "xla"))
]

FAST = (("open", "auto"), ("optim4rl", "auto"), ("star", "auto"))


def train(tx, params, length=3):
    """(parameters, state) after some updates within a scan, whose carry must keep its types."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(gradients(params), state, params)
        assert jax.tree.map(jnp.dtype, updates) == jax.tree.map(jnp.dtype, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=length)[0])(params)


@pytest.mark.parametrize(("name", "kernel"), slow_but(FAST, KERNELS, unpack=True))
def test_float64_is_as_float32(name, kernel):
    options = {} if name in ("star", "velo") else {"kernel": kernel}
    trained = make(name, **options)
    start = jax.tree.map(np.asarray, agent())  # draws differ under x64
    expected, expected_state = train(trained.as_optax(total_updates=10), agent())
    with jax.enable_x64(True):
        for dtype in (np.float64, np.float32):
            params = jax.tree.map(lambda x, d=dtype: jnp.asarray(x, d), start)
            got, state = train(trained.as_optax(total_updates=10), params)
            assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(got))
            assert_close(got, expected, 1e-5)
            assert_close(state.inner, expected_state.inner, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("x64", [False, True])
def test_each_leaf_keeps_its_dtype(x64):
    with jax.enable_x64(x64):
        params = agent()
        dtypes = (jnp.bfloat16, jnp.float32, jnp.float16, jnp.result_type(float))
        leaves, treedef = jax.tree.flatten(params)
        mixed = [leaf.astype(dtypes[i % 4]) for i, leaf in enumerate(leaves)]
        got, _ = train(make().as_optax(total_updates=9), treedef.unflatten(mixed))
        assert [leaf.dtype for leaf in jax.tree.leaves(got)] == [leaf.dtype for leaf in mixed]


def poisoned(tree, bad):
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten([leaves[0].at[0].set(bad), *leaves[1:]])


@pytest.mark.parametrize("name", slow_but(("open", "optim4rl"), LEARNED))
@pytest.mark.parametrize("keep_params", slow_but((True,), (True, False)))
def test_what_is_not_finite_changes_nothing_and_is_counted(name, keep_params):
    tx = make(name).as_optax(total_updates=10, keep_params=keep_params)
    params, update = agent(), jax.jit(tx.update)
    grads = gradients(params)
    _, before = update(grads, tx.init(params), params)
    expected, _ = update(grads, before, params)
    state = before._replace(params=params) if keep_params else before
    for count, bad in enumerate((np.nan, np.inf, -np.inf), start=1):
        updates, state = update(poisoned(grads, bad), state, params)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
        assert int(state.num_skipped) == count
    unchanged = state._replace(num_skipped=before.num_skipped, params=before.params)
    jax.tree.map(np.testing.assert_array_equal, unchanged, before)
    if keep_params:
        jax.tree.map(np.testing.assert_array_equal, state.params, params)
    got, _ = update(grads, state, params)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_counts_as_well():
    tx = make("velo", loss="agent").as_optax(total_updates=10)
    params = agent()
    state = tx.init(params)
    _, after = jax.jit(tx.update)(gradients(params), state, params, loss=jnp.nan)
    assert int(after.num_skipped) == 1 and int(after.num_updates) == 0
    jax.tree.map(np.testing.assert_array_equal, after.inner, state.inner)


def test_skipping_can_be_left_out():
    params = {"w": jnp.ones(2)}
    tx = learned_opt.load("sgd").as_optax(total_updates=10, skip_nonfinite=False)
    updates, state = tx.update({"w": jnp.array([jnp.nan, 1.0])}, tx.init(params), params)
    assert np.isnan(updates["w"][0]) and int(state.num_skipped) == 0


@pytest.mark.parametrize(
    ("name", "kernel"), slow_but((("open", "auto"), ("optim4rl", "auto")), KERNELS, unpack=True)
)
@pytest.mark.parametrize("same_gradients", slow_but((False,), (False, True)))
def test_shard_map_with_its_checks(name, kernel, same_gradients):
    """On each device the update of what is there, whether or not all devices have the same."""
    options = {} if name in ("star", "velo") else {"kernel": kernel}
    tx = make(name, **options).as_optax(total_updates=10)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def update(scale, params):
        grads = jax.tree.map(lambda g: g * scale[0], gradients(params))
        if same_gradients:
            grads = jax.lax.pmean(grads, "data")
        updates, _ = tx.update(grads, tx.init(params), params)
        return updates if same_gradients else jax.tree.map(lambda u: u[None], updates)

    specs = PartitionSpec("data"), PartitionSpec()
    out = PartitionSpec() if same_gradients else PartitionSpec("data")
    sharded = jax.shard_map(update, mesh=mesh, in_specs=specs, out_specs=out)
    got = jax.jit(sharded)(jnp.ones(1), agent())
    got = got if same_gradients else jax.tree.map(lambda u: u[0], got)
    expected, _ = jax.jit(tx.update)(gradients(agent()), tx.init(agent()), agent())
    assert_close(got, expected)
