"""Standalone optimizers within optax's own wrappers, in other containers, and on disk."""

import pickle

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx

import learned_opt
from tests.learned_opt.trees import agent, assert_close, gradients, make, network
from tests.marks import slow_but

pytestmark = pytest.mark.usefixtures("optax_promotes")


def first_update(tx, params, **context):
    return jax.jit(tx.update)(gradients(params), tx.init(params), params, **context)[0]


def dormancy(params):
    return jax.tree.map(lambda p: jnp.full(p.shape[-1:], 2.0), params)


def in_state(params):
    return nnx.State(jax.tree.map(nnx.Param, params))


@pytest.mark.parametrize("name", slow_but(("open", "adam"), learned_opt.names()))
def test_a_state_of_nnx_gets_the_updates_of_a_plain_dict(name):
    tx = make(name).as_optax(total_updates=10)
    expected = first_update(tx, agent())
    params, grads = in_state(agent()), in_state(gradients(agent()))
    got, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    assert jax.tree.structure(got) == jax.tree.structure(params)
    assert_close(jax.tree.leaves(got), jax.tree.leaves(expected), 0)


@pytest.mark.slow
def test_nnx_trains_with_it():
    class Agent(nnx.Module):
        def __init__(self, rngs):
            self.actor = nnx.Linear(3, 2, rngs=rngs)
            self.critic = nnx.Linear(3, 1, rngs=rngs)

    model = Agent(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, make().as_optax(total_updates=10), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss = lambda m: jnp.sum(m.actor(jnp.ones(3)) ** 2) + jnp.sum(m.critic(jnp.ones(3)))  # noqa: E731
        optimizer.update(model, nnx.grad(loss)(model))

    before = jax.tree.map(np.asarray, nnx.state(model, nnx.Param))
    for _ in range(2):
        step(model, optimizer)
    after = nnx.state(model, nnx.Param)
    assert all(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))


MASKS = {
    "a network": {"actor": True, "critic": False},
    "kernels": lambda params: jax.tree.map(lambda p: p.ndim == 2, params),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_a_mask_leaves_out_the_same_of_what_is_passed_through(mask):
    trained = make(features=("gradient", "dormancy"), stochastic=False, kernel="xla")
    tx = optax.masked(trained.as_optax(total_updates=10), mask)
    given = dormancy(agent())
    told, neutral = first_update(tx, agent(), dormancy=given), first_update(tx, agent())
    assert np.any(told["actor"]["Dense_0"]["kernel"] != neutral["actor"]["Dense_0"]["kernel"])
    if mask is MASKS["a network"]:
        assert_close(told["critic"], gradients(agent())["critic"], 0)


@pytest.mark.parametrize("name", slow_but(("open",), learned_opt.names()))
def test_a_module_that_holds_both_networks_is_parted_by_roles(name):
    """docs/drop_in.md's lines; a label that no parameter has is no trouble either."""
    both = {"params": network(jax.random.key(0), (3, 4, 2, 4, 1))}
    trained = make(name)
    if name == "open":
        with pytest.raises(ValueError, match=r"optax\.multi_transform.*docs/drop_in\.md"):
            first_update(trained.as_optax(total_updates=10), both)

    def roles(params):
        critic = ("Dense_2", "Dense_3")
        return {"params": {k: "critic" if k in critic else "actor" for k in params["params"]}}

    parts = {role: trained.as_optax(total_updates=10, role=role) for role in ("actor", "critic")}
    tx = optax.multi_transform({**parts, "frozen": trained.as_optax(total_updates=10)}, roles)
    got = first_update(tx, both, dormancy=dormancy(both))["params"]
    critic = {"params": {k: both["params"][k] for k in ("Dense_2", "Dense_3")}}
    alone = first_update(parts["critic"], critic, dormancy=dormancy(critic))["params"]
    assert_close({k: got[k] for k in alone}, alone)


@pytest.mark.parametrize("name", learned_opt.names())
@pytest.mark.parametrize("wrapped", [False, True])
def test_tree_map_params_knows_what_is_like_params(name, wrapped):
    """Whatever names the optimizer itself sees, and with sharding specs as optax's users give."""
    params = {"params": network(jax.random.key(0))}
    options = {"accumulate": 2} if name == "velo" else {}
    trained = make(name, **options)
    tx = trained.for_run(10).optimizer.transform(trained.theta)
    if wrapped:
        tx = trained.as_optax(total_updates=10, role=lambda p: "actor" if p["params"] else "critic")
    state, specs = tx.init(params), jax.tree.map(lambda p: f"{p.shape}", params)

    def same(leaf, spec):
        assert f"{leaf.shape}" == spec
        return leaf

    mapped = optax.tree_utils.tree_map_params(
        tx, same, state, specs, transform_non_params=lambda leaf: leaf[..., None]
    )
    assert jax.tree.structure(mapped) == jax.tree.structure(state)


@pytest.mark.parametrize("name", slow_but(("open", "optim4rl"), learned_opt.names()))
def test_optax_flatten_leaves_one_plain_network(name):
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    tx = optax.flatten(make(name).as_optax(total_updates=5, role="plain"))
    updates = first_update(tx, params)
    assert updates["kernel"].shape == (2, 3) and np.any(updates["kernel"])


@pytest.mark.parametrize("name", slow_but(("sgd",), learned_opt.names()))
def test_the_length_of_a_run_may_be_injected(name):
    trained = make(name, anneal=True, learning_rate=0.1) if name == "sgd" else make(name)
    static = "total_updates" if name == "velo" else ()
    make_tx = optax.inject_hyperparams(trained.as_optax, static_args=static)
    tx = make_tx(total_updates=10, updates_per_batch=2)
    plain = trained.as_optax(total_updates=10, updates_per_batch=2)
    state, expected_state = tx.init(agent()), plain.init(agent())
    for _ in range(3):
        got, state = jax.jit(tx.update)(gradients(agent()), state, agent())
        expected, expected_state = jax.jit(plain.update)(
            gradients(agent()), expected_state, agent()
        )
    assert_close(got, expected)


def test_a_length_that_velo_cannot_know_is_refused_with_the_remedy():
    tx = optax.inject_hyperparams(make("velo").as_optax)(total_updates=10)
    state = tx.init(agent())
    with pytest.raises(ValueError, match="static_args='total_updates'"):
        jax.jit(tx.update)(agent(), state, agent())


EMPTY = [{}, {"actor": {}}, (), {"actor": {"kernel": jnp.zeros((0, 3))}}]


@pytest.mark.parametrize("name", learned_opt.names())
def test_no_parameters_get_no_updates(name):
    tx = make(name).as_optax(total_updates=10)
    for params in EMPTY:
        updates, _ = tx.update(params, tx.init(params), params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)


STORED = {
    "an agent": agent,
    "a vector": lambda: {"w": jnp.ones(3)},
    "a scalar": lambda: jnp.ones(()),
    "nothing": dict,
}


@pytest.mark.parametrize("name", slow_but(("open", "star", "velo", "adam"), learned_opt.names()))
@pytest.mark.parametrize("kind", STORED)
def test_states_are_written_and_read_by_orbax_msgpack_and_pickle(name, kind, tmp_path):
    options = {"accumulate": 2} if name == "velo" else {}
    tx = make(name, **options).as_optax(total_updates=10, keep_params=True)
    state = tx.init(STORED[kind]())
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        read = [checkpointer.restore(tmp_path / "state", state)]
    read.append(flax.serialization.from_bytes(state, flax.serialization.to_bytes(state)))
    read.append(pickle.loads(pickle.dumps(state)))
    for other in read:
        assert jax.tree.structure(other) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, other, state)


def test_a_plain_network_is_neither_actor_nor_critic():
    """A classifier: the update of a critic's place, which has no noise."""
    params = {"params": network(jax.random.key(0))}
    trained = make(kernel="xla")
    results = [
        first_update(trained.as_optax(total_updates=5, role=role, seed=seed), params)
        for role, seed in (("plain", 0), ("plain", 1), ("critic", 0))
    ]
    for other in results[1:]:
        assert_close(other, results[0], 0)
    with pytest.raises(ValueError, match="role='plain'"):
        first_update(trained.as_optax(total_updates=5), params)
