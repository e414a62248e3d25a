"""A checkpoint gives back what it was given, whatever a state is made of."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from meta.runs.checkpoints import Checkpoints


def test_a_checkpoint_gives_back_arrays_of_no_elements_keys_and_scalars(tmp_path):
    tree = {
        "none": jnp.zeros((3, 0)),
        "whole": jnp.zeros((0,), jnp.int32),
        "key": jax.random.key(3),
        "count": jnp.int32(7),
        "empty": (),
        "values": jnp.arange(4.0),
    }
    like = jax.tree.map(lambda leaf: leaf if leaf.size == 0 else jnp.zeros_like(leaf), tree)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, tree)
        step, found = checkpoints.restore(like)
    assert step == 1
    plain = lambda tree: {**tree, "key": jax.random.key_data(tree["key"])}  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, plain(found), plain(tree))
    assert found["none"].shape == (3, 0) and found["whole"].dtype == jnp.int32
