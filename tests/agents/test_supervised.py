"""Supervised learning as an inner loop: the Agent protocol, honest splits, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from agents import SupervisedConfig, make_supervised
from agents.datasets import Dataset, Examples
from agents.supervised import _draw
from meta.engine import tasks

SMALL = SupervisedConfig(total_timesteps=4 * 8 * 6, batch_size=8, num_minibatches=4, widths=(8,))
CENTERS = np.random.default_rng(0).integers(0, 256, (3, 6))


def blobs(count, seed):
    """Three classes that can be told apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    images = np.clip(CENTERS[labels] + rng.integers(-20, 21, (count, 6)), 0, 255)
    return Examples(images.astype(np.uint8), labels)


DATA = Dataset("blobs", blobs(40, 1), blobs(20, 2), blobs(30, 3), (6,), 3, 255.0)


def transform(name="adam", **options):
    optimizer = learned_opt.make(name, **options)
    return optimizer.transform(optimizer.init(jax.random.key(0)))


def test_an_iteration_counts_what_it_says():
    agent = make_supervised(SMALL, DATA)
    assert (agent.num_iterations, agent.steps_per_iteration) == (6, 32)
    assert agent.updates_per_iteration == 4

    def init(params):
        return jnp.int32(0)

    def update(grads, count, params, **context):
        return jax.tree.map(jnp.zeros_like, grads), count + 1

    state = agent.init(jax.random.key(0), optax.GradientTransformationExtraArgs(init, update))
    state, _ = agent.train_step(optax.GradientTransformationExtraArgs(init, update), state)
    assert (int(state.opt_state), int(state.iteration)) == (4, 1)


def test_adam_learns_it():
    agent = make_supervised(SMALL, DATA)
    tx = transform(learning_rate=0.03)
    state = agent.init(jax.random.key(0), tx)
    step = jax.jit(lambda s: agent.train_step(tx, s))
    losses = []
    for _ in range(agent.num_iterations):
        state, metrics = step(state)
        losses.append(float(metrics["loss"]))
    assert losses[0] > 0.5 and losses[-1] < 0.3 * losses[0]
    assert float(state.episode_return[0]) > 0.9


def test_accuracy_is_of_the_split_that_it_is_measured_on():
    agent = make_supervised(SMALL, DATA)
    params = agent.init(jax.random.key(3), optax.sgd(0.1)).params
    for measured, examples in [(agent, DATA.validation), (agent.on_test(), DATA.test)]:
        hidden, out = params["actor"]["Dense_0"], params["actor"]["Dense_1"]
        x = np.maximum(examples.images / 255.0 @ hidden["kernel"] + hidden["bias"], 0)
        right = np.argmax(x @ out["kernel"] + out["bias"], axis=1) == examples.labels
        assert float(measured.accuracy(params)) == pytest.approx(right.mean())
    bad = jax.tree.map(lambda leaf: leaf * jnp.nan, params)
    assert float(agent.accuracy(bad)) == 0.0


def test_the_test_examples_decide_nothing():
    agent = make_supervised(SMALL, DATA)
    other = make_supervised(SMALL, DATA._replace(test=blobs(30, 9)))
    tx = transform(learning_rate=0.03)
    for one, two in [(agent, other), (agent.on_test(), other.on_test())]:
        states = [a.train_step(tx, a.init(jax.random.key(0), tx))[0] for a in (one, two)]
        jax.tree.map(np.testing.assert_array_equal, states[0].params, states[1].params)
        outer = [a.outer_loss(s)[0] for a, s in zip((one, two), states, strict=True)]
        assert outer[0] == outer[1]


def test_the_outer_loss_is_of_validation_examples_and_differentiable():
    agent = make_supervised(SMALL, DATA)
    state = agent.init(jax.random.key(0), optax.sgd(0.1))
    loss, moved = agent.outer_loss(state)
    logits = agent.network.apply({"params": state.params["actor"]}, DATA.validation.images / 255.0)
    labels = DATA.validation.labels
    expected = -jax.nn.log_softmax(logits.values)[np.arange(20), labels].mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert jax.random.key_data(moved.key).tolist() != jax.random.key_data(state.key).tolist()
    gradient = jax.grad(lambda p: agent.outer_loss(state._replace(params=p))[0])(state.params)
    assert float(optax.tree.norm(gradient)) > 0


def test_an_iteration_sees_no_example_twice():
    drawn = np.asarray(_draw(jax.random.key(0), 40, 32))
    assert len(set(drawn.tolist())) == 32 and drawn.min() >= 0 and drawn.max() < 40
    assert drawn.tolist() != np.asarray(_draw(jax.random.key(1), 40, 32)).tolist()


def test_optimizers_are_told_what_an_actor_tells_them():
    agent = make_supervised(SMALL, DATA)
    seen = []

    def update(grads, state, params, **context):
        seen.append(context)
        return jax.tree.map(jnp.zeros_like, grads), state

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
    agent.train_step(tx, agent.init(jax.random.key(0), tx))
    assert set(seen[0]) == {
        "key", "training_proportion", "batch_proportion", "dormancy", "loss",
    }  # fmt: skip
    shapes = jax.tree.map(jnp.shape, seen[0]["dormancy"])
    assert shapes["actor"]["Dense_0"] == {"bias": (8,), "kernel": (8,)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["optim4rl", pytest.param("open", marks=pytest.mark.slow)])
def test_learned_optimizers_run_as_on_actors(name):
    agent = make_supervised(SMALL, DATA)
    tx = transform(name)
    state = agent.init(jax.random.key(0), tx)
    state, metrics = jax.jit(lambda s: agent.train_step(tx, s))(state)
    assert np.isfinite(float(metrics["loss"]))


def test_l2_adds_half_the_squared_norm_of_the_kernels():
    plain, decayed = (
        make_supervised(SupervisedConfig(**{**vars(SMALL), "l2": l2}), DATA) for l2 in (0.0, 0.5)
    )
    state = plain.init(jax.random.key(0), optax.sgd(0.1))
    kernels = [layer["kernel"] for layer in state.params["actor"].values()]
    norm = sum(float(jnp.sum(jnp.square(k))) for k in kernels)
    difference = decayed.outer_loss(state)[0] - plain.outer_loss(state)[0]
    assert float(difference) == pytest.approx(0.25 * norm, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"activation": "sine"}, "unknown activation 'sine'"),
        ({"widths": (0,)}, "widths must be at least 1"),
        ({"l2": -1.0}, "l2 must be at least 0"),
        ({"total_timesteps": 31}, "give at least 32"),
        ({"num_minibatches": 6, "total_timesteps": 100}, "num_minibatches at most 5 fits"),
    ],
)
def test_settings_that_do_not_fit_are_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        make_supervised(SupervisedConfig(**{**vars(SMALL), **changes}), DATA)


def block(agent, env, **options):
    return {
        "env": env, "env_options": options, "agent": agent, "normalizer": 1.0,
        "total_timesteps": 10_000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (block({"name": "supervised"}, "catch"), "is an environment, and the agent 'supervised'"),
        (block({"name": "ppo"}, "tfds/digits"), "is a dataset, and ppo needs an environment"),
        (block({"name": "supervized"}, "tfds/digits"), "did you mean 'supervised'"),
        (block({"name": "supervised", "num_envs": 4}, "tfds/digits"), "no field 'num_envs'"),
        (block({"name": "supervised"}, "tfds/digits", datadir="x"), "did you mean 'data_dir'"),
    ],
)
def test_agents_and_tasks_that_do_not_belong_together(wrong, message):
    with pytest.raises(ValueError, match=message):
        tasks.make_task("x", wrong)


def test_finished_optimizers_are_compared_on_test_examples(monkeypatch):
    monkeypatch.setattr(tasks.datasets, "load", lambda name, folder: DATA)
    agent = {"name": "supervised", "batch_size": 8, "num_minibatches": 4}
    task = tasks.make_task("x", block(agent, "tfds/blobs"))
    assert task.agent.measured_on == "validation" and task.final.agent.measured_on == "test"
    assert task.final.final.agent is task.final.agent
    longer = tasks.with_lifetime(task.agent, 5, 7)
    assert longer.num_iterations == 7 and longer.measured_on == "validation"
    with pytest.raises(ValueError, match="nothing acts there"):
        _ = task.actor_critic
