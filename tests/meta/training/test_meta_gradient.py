import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import learned_opt
from configs import blocks
from meta.training import experiment, outer_optimizer
from meta.training import loop as training_loop
from meta.training.inner_loop import InnerLoop
from meta.training.meta_gradient import MetaGradientConfig, MetaGradientTrainer
from meta.training.pipeline import Pipeline, reset_indices, reset_turns
from tests.meta.quadratic import QuadraticAgent

AGENTS = 4


def linear():
    return learned_opt.make("linear", learning_rate=0.1, gradient_clip=None)


def make_pipeline(reset_interval=2, agents_per_device=1, num_agents=AGENTS):
    loop = InnerLoop(QuadraticAgent(), linear(), 2, "update", False, 0.0)
    return Pipeline(
        loop,
        num_agents,
        reset_interval,
        agents_per_device=agents_per_device,
        devices=jax.devices()[:1],
    )


def test_reset_indices_are_spread_over_the_interval():
    np.testing.assert_array_equal(reset_indices(4, 64), [0, 21, 42, 63])
    np.testing.assert_array_equal(reset_indices(1, 64), [0])
    turns = np.stack([reset_turns(step, 4, 64) for step in range(1, 129)])
    assert (turns.sum(axis=0) == 2).all()  # each agent once in every interval
    assert not reset_turns(0, 4, 64).any() and not reset_turns(64, 4, 0).any()


def test_a_reset_touches_exactly_the_agents_whose_turn_it_is():
    pipeline = make_pipeline(reset_interval=4)
    theta = linear().init(jax.random.key(0))
    agents = pipeline.start(jax.random.key(1))
    for step in range(4):
        before = np.asarray(agents.states.iteration)
        agents, _, _ = pipeline.advance(theta, agents, step, jax.random.key(2))
        turn = reset_turns(step, AGENTS, 4)
        np.testing.assert_array_equal(agents.states.iteration, np.where(turn, 0, before) + 2)
        np.testing.assert_array_equal(agents.age, np.asarray(agents.states.iteration) // 2)
    assert sorted(agents.age.tolist()) == [1, 2, 3, 4]


@pytest.mark.slow
def test_agents_taken_together_or_one_by_one_give_the_same():
    theta = linear().init(jax.random.key(0))
    results = []
    for together in (1, 2, 4):
        pipeline = make_pipeline(agents_per_device=together)
        assert pipeline.chunk == together
        agents = pipeline.start(jax.random.key(1))
        _, gradients, _ = pipeline.advance(theta, agents, 0, jax.random.key(2))
        results.append(np.concatenate([np.ravel(g) for g in jax.tree.leaves(gradients)]))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(results[0], results[2], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_one_device_equals_four(run_python):
    text = """
import jax
jax.config.update("jax_num_cpu_devices", {devices})
from configs import catch_optim4rl
from meta.training import experiment
import numpy as np
config = catch_optim4rl.get_config("smoke")
config.tasks.catch.agent.num_steps = 4
config.outer.num_envs = 2
config.outer.agents_per_device = 1
made = experiment.build(config.to_dict())
assert made.trainer.pipelines[0].num_devices == {devices}
state = made.trainer.init(made.keys.training)
for _ in range(3):
    state, _ = made.trainer.step(state)
flat = jax.flatten_util.ravel_pytree(made.trainer.theta(state))[0]
print(*np.asarray(flat).tolist())
"""
    one, four = (
        np.array(run_python(text.format(devices=count)).split(), float) for count in (1, 4)
    )
    # Equal but for the last bits: XLA orders the sums of unlike programs in unlike ways.
    np.testing.assert_allclose(one, four, rtol=1e-5, atol=1e-6)


class FakeTask:
    """What the trainer reads of a task."""

    name = "quadratic"
    agent = QuadraticAgent()


def make_trainer(monkeypatch, **changes):
    # The quadratic has no environments whose number could change.
    monkeypatch.setattr("meta.training.meta_gradient.with_lifetime", lambda agent, *_: agent)
    config = MetaGradientConfig(
        num_agents=AGENTS, inner_updates=4, reset_interval=4, learning_rate=0.02, **changes
    )
    return MetaGradientTrainer(config, linear(), [FakeTask()], devices=jax.devices()[:1])


@pytest.mark.slow
def test_training_on_a_quadratic_lowers_the_outer_loss(monkeypatch):
    trainer = make_trainer(monkeypatch)
    state = trainer.init(jax.random.key(0))
    losses = []
    for _ in range(40):
        state, metrics = trainer.step(state)
        losses.append(metrics["outer_loss"])
    assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:8])
    assert metrics["theta_relative_change"] > 0.01 and metrics["skipped_gradients"] == 0
    assert trainer.steps_done(state) == 40
    assert all(np.isfinite(metrics[f"return_by_age/quadratic/{age}"]) for age in (1, 2, 3, 4))


def test_programs_are_compiled_once_wherever_theta_was_at_first(monkeypatch, caplog):
    trainer = make_trainer(monkeypatch)
    state = trainer.init(jax.random.key(0))
    with jax.log_compiles():
        for _ in range(3):
            state, _ = trainer.step(state)
    compiled = [record.getMessage() for record in caplog.records]
    for name in ("gathered", "_update_theta", "renew"):
        assert sum(f"Compiling jit({name})" in message for message in compiled) == 1


def test_agents_that_failed_are_skipped_counted_and_reset(monkeypatch):
    trainer = make_trainer(monkeypatch)
    state = trainer.init(jax.random.key(0))
    poisoned = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), state.agents[0].states.params)
    agents = state.agents[0]._replace(states=state.agents[0].states._replace(params=poisoned))
    state, metrics = trainer.step(state._replace(agents=(agents,)))
    assert metrics["skipped_gradients"] == 1 and np.isfinite(metrics["meta_gradient_norm"])
    assert state.agents[0].failed.tolist() == [False, True, False, False]
    state, metrics = trainer.step(state)
    assert metrics["skipped_gradients"] == 0 and not state.agents[0].failed.any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.theta))


def test_without_any_finite_gradient_theta_and_its_optimizer_stay(monkeypatch):
    trainer = make_trainer(monkeypatch)
    state = trainer.init(jax.random.key(0))
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, state.agents[0].states.params)
    agents = state.agents[0]._replace(states=state.agents[0].states._replace(params=broken))
    moved, metrics = trainer.step(state._replace(agents=(agents,)))
    assert metrics["skipped_gradients"] == AGENTS
    for new, old in zip(
        jax.tree.leaves((moved.theta, moved.outer_state)),
        jax.tree.leaves((state.theta, state.outer_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(new, old)


def test_outer_clipping_scales_down_and_never_up():
    for size, expected in ((10.0, 0.5), (0.1, 0.1)):
        tx = outer_optimizer.make("sgd", 1.0, {}, clip="norm", clip_size=0.5)
        gradient = {"a": jnp.array([size, 0.0])}
        updates, _ = tx.update(gradient, tx.init(gradient), gradient)
        np.testing.assert_allclose(optax.tree.norm(updates), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adm"}, "did you mean 'adam'"),
        ({"optimizer_options": {"b3": 1.0}}, "do not fit optax.adam"),
        ({"clip": "nrm"}, "did you mean 'norm'"),
        ({"clip_size": 0.0}, "clip_size must be above 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"reset_interval": 0}, "reset_interval must be at least 1"),
        ({"num_agents": 0}, "num_agents must be at least 1"),
        ({"inner_updates": 0}, "inner_updates must be at least 1"),
        ({"remat": "iterations"}, "did you mean 'iteration'"),
        ({"num_meta_steps": 0}, "num_meta_steps must be at least 1"),
        ({"num_agents": 200_000_000}, "GiB may be used"),
        ({"rset_interval": 3}, "did you mean 'reset_interval'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_compiled(changes, message):
    from configs import catch_optim4rl

    config = catch_optim4rl.get_config("smoke").to_dict()
    config["outer"].update(changes)
    with pytest.raises(ValueError, match=message):
        experiment.build(config)


def small_config():
    from configs import catch_optim4rl

    config = catch_optim4rl.get_config("smoke")
    config.tasks.catch.agent.widths = (4,)
    config.tasks.catch.agent.num_steps = 4
    config.logging.tensorboard = False
    return config.to_dict()


def theta_of(state):
    return np.asarray(ravel_pytree(state.meta.theta)[0])


@pytest.mark.slow
def test_a_crash_costs_at_most_a_meta_step_and_changes_nothing(tmp_path, monkeypatch):
    whole = training_loop.train(experiment.build(small_config()), str(tmp_path / "whole"))
    made = experiment.build(small_config())
    step = made.trainer.step

    def crash(state, on_progress=None):
        if int(state.meta_step) == 2:
            raise RuntimeError("power cut")
        return step(state, on_progress)

    monkeypatch.setattr(made.trainer, "step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        training_loop.train(made, str(tmp_path / "cut"))
    resumed = training_loop.train(experiment.build(small_config()), str(tmp_path / "cut"))
    np.testing.assert_array_equal(theta_of(resumed), theta_of(whole))
    rows = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("whole", "cut")]
    seconds = rows[0][0].split(",").index("seconds")
    plain = [[c for i, c in enumerate(r.split(",")) if i != seconds] for r in rows[0]]
    assert plain == [[c for i, c in enumerate(r.split(",")) if i != seconds] for r in rows[1]]
    trained = learned_opt.load(tmp_path / "cut" / "optimizer.npz")
    assert trained.metadata["training"]["outer_loop"] == "meta_gradient"
    assert trained.metadata["training"]["meta_steps"] == 4


def test_shrinking_keeps_the_outer_loop():
    assert set(blocks.meta_gradient(3)) == set(small_config()["outer"])
