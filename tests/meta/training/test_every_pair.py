"""Every optimizer is trained by every outer loop, to a checkpoint and back."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import learned_opt
from agents import environments
from configs import blocks
from meta.runs.checkpoints import Checkpoints
from meta.training import experiment, loop, outer_loop
from tests.agents import probes
from tests.marks import slow_but

OPTIMIZERS = [name for name in learned_opt.names() if not learned_opt.is_handcrafted(name)]
PAIRS = [(outer, name) for outer in outer_loop.names() for name in OPTIMIZERS]
# STAR's state once held arrays of no elements.
FAST = [("es", "open"), ("meta_gradient", "star")]


@pytest.fixture(scope="module", autouse=True)
def probe_suite():
    environments.register_suite(
        "pair-probe", lambda name: probes.Probe(probes.prefer_one, length=3), lambda: ["one"]
    )


def config(outer, optimizer):
    """Agents of one iteration of 16 steps with layers of 4, two of them at once."""
    task = blocks.task("pair-probe/one", 32)
    task.baselines = ConfigDict()
    length = outer_loop.get(outer).length
    block = ConfigDict(outer_loop.block(outer, 2))
    made = blocks.shrink(blocks.experiment({"one": task}, optimizer=optimizer, outer=block))
    made.logging.tensorboard = False
    if optimizer == "velo":
        made.optimizer.options.total_updates = 2
    agent = made.tasks.one.agent
    agent.num_envs, agent.num_steps, agent.widths = 4, 4, (4, 4)
    agent.ppo.num_epochs, agent.ppo.num_minibatches = 1, 1
    made.tasks.one.total_timesteps = 32
    made.outer.validate_every = 0
    small = {"population_size": 2, "num_agents": 2, "inner_updates": 1}
    made.outer.update({name: value for name, value in small.items() if name in made.outer})
    made.outer[length] = 2
    return made.to_dict()


def plain(state):
    """The leaves of a state, keys as their data."""
    leaves = map(jax.numpy.asarray, jax.tree.leaves(state))
    is_key = lambda leaf: jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in leaves]


def filled(shape, value):
    """An array of a shape; a state's structure decides whether it can be saved."""
    if jax.dtypes.issubdtype(shape.dtype, jax.dtypes.prng_key):
        words = jax.eval_shape(jax.random.key_data, shape)
        return jax.random.wrap_key_data(jax.numpy.full(words.shape, value, words.dtype))
    return jax.numpy.full(shape.shape, value, shape.dtype)


@pytest.mark.parametrize("pair", slow_but(FAST, PAIRS), ids="-".join)
def test_the_state_of_every_pair_is_saved_and_read_back(pair, tmp_path):
    trainer = experiment.build(config(*pair)).trainer
    shapes = jax.eval_shape(trainer.init, jax.random.key(1))  # nothing is compiled
    state, other = (jax.tree.map(lambda leaf, n=n: filled(leaf, n), shapes) for n in (1, 0))
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, state)
        _, found = checkpoints.restore(other)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for after, before in zip(plain(found), plain(state), strict=True):
        np.testing.assert_array_equal(after, before)
        assert (after.dtype, after.shape) == (before.dtype, before.shape)


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_pair_trains_and_goes_on_as_if_it_had_not_stopped(pair, tmp_path):
    built = experiment.build(config(*pair))
    whole = loop.train(built, str(tmp_path / "whole"))
    first = built._replace(schedule=dataclasses.replace(built.schedule, num_steps=1))
    loop.train(first, str(tmp_path / "cut"))
    resumed = loop.train(built, str(tmp_path / "cut"))
    assert built.trainer.steps_done(resumed.meta) == 2
    for after, before in zip(plain(resumed.meta), plain(whole.meta), strict=True):
        np.testing.assert_array_equal(after, before)
