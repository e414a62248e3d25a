"""The optax face: another's training loop gets the same updates as an agent of this toolkit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.training.train_state import TrainState

import learned_opt
from learned_opt import standalone
from learned_opt.files import serialization
from tests.learned_opt.trees import agent, assert_close, make, network
from tests.marks import slow_but


@pytest.mark.slow
def test_updates_are_those_that_the_agents_context_gives():
    trained, params = make(), agent()
    tx = trained.as_optax(total_updates=24, updates_per_batch=6, epochs_per_batch=3)
    inside = trained.optimizer.transform(trained.theta)
    state, inner, theirs = tx.init(params), inside.init(params), params
    update, inside_update = jax.jit(tx.update), jax.jit(inside.update)
    words = state.key_words
    for count in range(8):
        grads = jax.tree.map(lambda p, c=count: jnp.cos(p * (c + 1)), theirs)
        updates, state = update(grads, state, theirs)
        expected, inner = inside_update(
            grads,
            inner,
            theirs,
            key=jax.random.fold_in(jax.random.wrap_key_data(words), count),
            training_proportion=jnp.float32((count // 6) / 3),
            batch_proportion=jnp.float32(((count % 6) // 2) / 2),
            dormancy=jax.tree.map(jnp.ones_like, params),
        )
        assert_close(updates, expected)
        theirs = optax.apply_updates(theirs, updates)
    assert int(state.num_updates) == 8


@pytest.mark.parametrize(
    ("counts", "at", "training", "batch"),
    [
        ((10, 1, 1), 0, 0.0, 0.0),
        ((10, 1, 1), 9, 1.0, 0.0),
        ((10, 1, 1), 500, 1.0, 0.0),
        ((12, 4, 4), 3, 0.0, 1.0),
        ((12, 4, 2), 5, 0.5, 0.0),
        ((12, 4, 2), 6, 0.5, 1.0),
        ((10, 4, 1), 9, 1.0, 0.0),  # the last batch is not whole
        ((1, 1, 1), 0, 0.0, 0.0),
    ],
)
def test_the_proportions_count_batches_and_epochs(counts, at, training, batch):
    got = standalone.make_schedule(*counts).proportions(jnp.int32(at))
    assert [float(x) for x in got] == [training, batch]


@pytest.mark.parametrize(
    ("counts", "fix"),
    [
        ((None, 1, None), "total_updates=..."),
        ((0, 1, None), "total_updates must be a whole number of at least 1, got 0"),
        ((2.5, 1, None), "total_updates must be a whole number"),
        ((8, 0, None), "updates_per_batch must be"),
        ((8, 9, None), "updates_per_batch=9 is more than total_updates=8"),
        ((8, 4, 3), "not a multiple of epochs_per_batch=3"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts, fix):
    total, per_batch, epochs = counts
    with pytest.raises(ValueError, match=fix.replace("(", r"\(")):
        make().as_optax(total_updates=total, updates_per_batch=per_batch, epochs_per_batch=epochs)


def test_a_tree_that_does_not_tell_actor_from_critic_is_refused_with_the_remedy():
    params = {"policy": network(jax.random.key(0)), "value": network(jax.random.key(1))}
    trained = make()
    tx = trained.as_optax(total_updates=5)
    with pytest.raises(ValueError, match=r"as_optax\(actor_key=\.\.\.\).*role='actor'"):
        tx.update(params, tx.init(params), params)
    named = trained.as_optax(total_updates=5, actor_key="policy")
    updates, _ = named.update(params, named.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    with pytest.raises(ValueError, match="role must be one of"):
        trained.as_optax(total_updates=5, role="policy")


@pytest.mark.slow
def test_flax_wrappers_and_other_containers_change_nothing():
    """The same numbers whether Flax's collection is around the networks or within them."""
    trained, params = make(features=("gradient", "layer_proportion")), agent()
    variants = [
        params,
        {"params": params},
        {name: {"params": network} for name, network in params.items()},
    ]
    results = []
    for tree in variants:
        tx = trained.as_optax(total_updates=5, seed=1)
        updates, _ = tx.update(tree, tx.init(tree), tree)
        results.append(jax.tree.leaves(updates))
    assert all(np.any(leaf) for leaf in results[0])
    for others in results[1:]:
        assert_close(others, results[0])


def _noise_of(role, params, **options):
    """The difference that the key makes."""
    trained = make(zero_mean=False, **options)
    results = []
    for seed in (0, 1):
        tx = trained.as_optax(total_updates=5, role=role, seed=seed)
        results.append(tx.update(params, tx.init(params), params)[0])
    return max(
        float(jnp.max(jnp.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, results), strict=True)
    )


@pytest.mark.parametrize("kernel", slow_but(("auto",), ("auto", "xla")))
def test_with_an_optimizer_for_each_network_the_actors_alone_is_noisy(kernel):
    params = {"params": network(jax.random.key(0))}
    assert _noise_of("actor", params, kernel=kernel) > 1e-5
    assert _noise_of("critic", params, kernel=kernel) == 0.0


def test_the_role_can_be_told_from_the_parameters():
    def role(params):
        return "critic" if params["Dense_1"]["bias"].shape == (1,) else "actor"

    actor, critic = agent()["actor"], agent()["critic"]
    assert _noise_of(role, actor) > 1e-5
    assert _noise_of(role, critic) == 0.0
    with pytest.raises(ValueError, match=r"role\(params\) must give"):
        make().as_optax(total_updates=3, role=lambda params: "head").init(actor)


def test_params_are_asked_for_or_kept():
    trained, params = make(), agent()
    tx = trained.as_optax(total_updates=5)
    with pytest.raises(ValueError, match=r"as_optax\(\.\.\., keep_params=True\)"):
        tx.update(params, tx.init(params))
    keeps = trained.as_optax(total_updates=5, keep_params=True)
    state, kept, theirs, plain = tx.init(params), keeps.init(params), params, params
    for _ in range(3):
        updates, state = tx.update(jax.tree.map(jnp.sin, plain), state, plain)
        plain = optax.apply_updates(plain, updates)
        updates, kept = keeps.update(jax.tree.map(jnp.sin, theirs), kept)
        theirs = optax.apply_updates(theirs, updates)
    assert_close(plain, theirs, 0)
    assert_close(kept.params, theirs, 0)


def test_what_needs_no_params_works_without_them():
    grads = {"w": jnp.ones((3,))}
    tx = learned_opt.load("sgd").as_optax(total_updates=2)
    updates, _ = tx.update(grads, tx.init(grads))
    np.testing.assert_allclose(updates["w"], -0.01 * np.ones(3), rtol=1e-6)


@pytest.mark.usefixtures("optax_promotes")
def test_annealing_counts_for_itself():
    params = {"w": jnp.ones((3,))}
    tx = learned_opt.make("sgd", learning_rate=1.0, anneal=True)
    tx = serialization.TrainedOptimizer(tx, {}, {}).as_optax(total_updates=5)
    state, sizes = tx.init(params), []
    for _ in range(6):
        updates, state = tx.update(params, state, params)
        sizes.append(-float(updates["w"][0]))
    np.testing.assert_allclose(sizes, [1, 0.75, 0.5, 0.25, 0, 0], atol=1e-6)


@pytest.mark.slow
def test_given_context_goes_through():
    trained, params = make(features=("gradient", "dormancy"), stochastic=False), agent()
    tx = trained.as_optax(total_updates=5)
    dormancy = jax.tree.map(lambda p: jnp.full(p.shape[-1:], 3.0), params)
    neutral, _ = tx.update(params, tx.init(params), params)
    told, _ = tx.update(params, tx.init(params), params, dormancy=dormancy)
    assert any(
        np.abs(a - b).max() > 1e-7
        for a, b in zip(*map(jax.tree.leaves, (neutral, told)), strict=True)
    )


@pytest.mark.slow
def test_runs_that_differ_in_their_start_draw_other_noise():
    trained = make(features=("gradient", "batch_proportion"), zero_mean=False)
    tx = trained.as_optax(total_updates=5)

    @jax.vmap
    def noise(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return tx.update(zeros, tx.init(params), zeros)[0]["actor"]["Dense_0"]["kernel"]

    params = jax.tree.map(lambda p: jnp.stack([p, p, 1.5 * p]), agent())
    same, again, other = noise(params)
    np.testing.assert_array_equal(same, again)
    assert np.abs(same - other).max() > 1e-6


@pytest.mark.usefixtures("optax_promotes")
def test_a_flax_train_state_learns_under_scan_and_its_state_is_plain_arrays():
    class Regression(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(nn.relu(nn.Dense(8)(x)))

    x = jax.random.normal(jax.random.key(0), (32, 3))
    y = jnp.sum(x, axis=1, keepdims=True)
    module = Regression()
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        learned_opt.load("adam:breakout").as_optax(total_updates=200),
    )
    state = TrainState.create(
        apply_fn=module.apply, params=module.init(jax.random.key(1), x), tx=tx
    )

    def step(state, _):
        loss, grads = jax.value_and_grad(
            lambda params: jnp.mean((state.apply_fn(params, x) - y) ** 2)
        )(state.params)
        return state.apply_gradients(grads=grads), loss

    state, losses = jax.lax.scan(step, state, length=200)
    assert losses[-1] < 0.1 * losses[0]
    leaves = jax.tree.leaves(state.opt_state)
    assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves)
