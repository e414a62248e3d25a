"""Optim4RL, Linear and L2LGD2: the definition, the release's updates, and meta-gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.families import optim4rl
from tests.learned_opt.families.test_open_golden import nested
from tests.learned_opt.test_optimizer_contract import example_params

FAMILIES = optim4rl.FAMILIES


def number_of_weights(theta):
    return sum(leaf.size for leaf in jax.tree.leaves(theta))


def test_optim4rl_has_the_papers_514_meta_parameters():
    theta = learned_opt.make("optim4rl").init(jax.random.key(0))
    assert number_of_weights(theta) == 514


@pytest.mark.parametrize("family", FAMILIES)
def test_fast_evaluation_equals_the_flax_definition(family):
    branches = optim4rl._RULES[family].branches
    network = optim4rl.RecurrentNetwork(8, branches)
    theta = jax.tree.map(
        lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape),
        network.initial_theta(jax.random.key(0)),
    )
    keys = jax.random.split(jax.random.key(1), 2 * len(branches))
    hidden = tuple(jnp.tanh(jax.random.normal(k, (8, 5))) for k in keys[: len(branches)])
    inputs = tuple(
        jax.random.normal(k, (branch.num_inputs, 5))
        for k, branch in zip(keys[len(branches) :], branches, strict=True)
    )
    transposed = jax.tree.map(jnp.transpose, (hidden, inputs))
    expected = network.apply({"params": theta}, *transposed)
    for i, branch in enumerate(branches):
        found = optim4rl.evaluate(theta, branch, hidden[i], inputs[i])
        np.testing.assert_allclose(found[0].T, expected[0][i], atol=2e-6)
        np.testing.assert_allclose(found[1].T, expected[1][i], atol=2e-6)


def test_published_optimizer_repeats_the_authors_updates(golden, published):
    archive = np.load(golden / "optim4rl_ant_5_golden.npz")
    trained = learned_opt.load(published / "optim4rl_ant_5.npz")
    assert trained.metadata["options"]["learning_rate"] == archive["learning_rate"]
    assert trained.metadata["options"]["gradient_clip"] == archive["grad_clip"]
    tx = trained.optimizer.transform(trained.theta)
    update = jax.jit(tx.update)
    params = nested(archive, "param0")
    state = tx.init(params)
    for t in range(10):
        updates, state = update(nested(archive, f"grad{t}"), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        for found, name in ((updates, f"update{t}"), (params, f"param{t + 1}")):
            jax.tree.map(
                # Updates are about 3e-4: they must agree to a ten-thousandth of that.
                lambda a, b, name=name: np.testing.assert_allclose(
                    a, b, rtol=0, atol=3e-8 if "update" in name else 1e-6
                ),
                found,
                nested(archive, name),
            )


@pytest.mark.parametrize("name", ["ant_1", "ant_5", "ant_22", "humanoid_1"])
def test_published_files_load_and_step_against_the_gradient(published, name):
    trained = learned_opt.load(published / f"optim4rl_{name}.npz")
    assert trained.metadata["name"] == "optim4rl"
    assert "published" in trained.metadata["source"]
    tx = trained.optimizer.transform(trained.theta)
    grads = {"w": jnp.array([-2.0, 0.0, 0.5])}
    updates, _ = tx.update(grads, tx.init(grads))
    np.testing.assert_array_equal(jnp.sign(updates["w"]), [1, 0, -1])
    assert 1e-5 < float(jnp.max(jnp.abs(updates["w"]))) < 1e-2


def zero_theta(family):
    theta = learned_opt.make(family).init(jax.random.key(0))
    return jax.tree.map(jnp.zeros_like, theta)


@pytest.mark.parametrize(
    ("family", "expected"),
    # All outputs are 0 at zero theta, and exp(0) = 1.
    [
        ("optim4rl", lambda g: -0.1 * np.sign(g) / np.sqrt(1 + 1e-8)),
        ("linear", lambda g: -0.1 * np.clip(g, -1, 1)),
        ("l2lgd2", lambda g: -0.1 * np.clip(g, -1, 1)),
    ],
)
def test_updates_at_zero_theta_are_known(family, expected):
    gradient = np.array([-3.0, -0.2, 0.0, 0.7], np.float32)
    tx = learned_opt.make(family, learning_rate=0.1).transform(zero_theta(family))
    updates, _ = tx.update({"w": jnp.array(gradient)}, tx.init({"w": gradient}))
    np.testing.assert_allclose(updates["w"], expected(gradient), rtol=1e-6)


def test_l2lgd2_shows_gradients_of_any_size():
    gradient = jnp.array([1.0, -np.exp(-5.0), 1e-5, -1e-6, 0.0, 3e38], jnp.float32)
    shown = optim4rl.preprocess(gradient)
    np.testing.assert_allclose(shown[0, :5], [0.0, -0.5, -1.0, -1.0, -1.0], atol=1e-6)
    np.testing.assert_allclose(
        shown[1], [1.0, -1.0, np.exp(10.0) * 1e-5, -np.exp(10.0) * 1e-6, 0.0, 1.0], rtol=1e-6
    )
    slopes = jax.jit(jax.vmap(jax.jacrev(lambda g: optim4rl.preprocess(g[None]))))(gradient)
    assert bool(jnp.all(jnp.isfinite(slopes)))


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, "star"])
def test_meta_gradients_through_many_updates_are_finite(family):
    optimizer = learned_opt.make(family)
    theta = optimizer.init(jax.random.key(0))
    start = example_params()
    # Parameters without any influence on the loss have gradients of exactly 0, others start
    # at 0 or are huge.
    target = jax.tree.map(jnp.zeros_like, start)
    start["actor"]["Dense_0"]["bias"] = jnp.zeros(3)
    start["critic"]["Dense_0"]["kernel"] *= 1e6

    def loss(params):
        squares = jax.tree.map(lambda p, t: jnp.sum((p - t) ** 2), params["actor"], target["actor"])
        return sum(jax.tree.leaves(squares)) + jnp.sum(params["critic"]["Dense_0"]["kernel"] ** 2)

    def outer_loss(theta):
        tx = optimizer.transform(theta)
        params, state = start, tx.init(start)
        for _ in range(4):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            params = jax.tree.map(jnp.add, params, updates)
        return loss(params)

    gradients = jax.tree.leaves(jax.jit(jax.grad(outer_loss))(theta))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in gradients)
    assert any(bool(jnp.any(g != 0)) for g in gradients)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"gradient_clip": -1.0}, "gradient_clip"),
        ({"lerning_rate": 1.0}, "did you mean 'learning_rate'"),
    ],
)
@pytest.mark.parametrize("family", [*FAMILIES, "star"])
def test_bad_options_are_refused(family, options, message):
    with pytest.raises(ValueError, match=message):
        learned_opt.make(family, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_clip_lets_large_gradients_in(family):
    def update(clip):
        optimizer = learned_opt.make(family, gradient_clip=clip)
        tx = optimizer.transform(optimizer.init(jax.random.key(0)))
        grads = {"w": jnp.array([3.0])}
        return tx.update(grads, tx.init(grads))[0]["w"]

    assert bool(jnp.all(update(1.0) != update(None)))
    np.testing.assert_array_equal(update(5.0), update(None))
