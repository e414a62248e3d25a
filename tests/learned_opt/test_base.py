"""Names of parameters, whatever holds them."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from learned_opt import base, flat
from tests.learned_opt.trees import agent, network


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Linear:
    """As an Equinox module: arrays by attributes."""

    weight: Any
    bias: Any


class Layers(NamedTuple):
    """As an Equinox module: attributes, a sequence in one of them, and None where none is."""

    layers: tuple
    activation: None = None


@jax.tree_util.register_pytree_node_class
class NamelessBox:
    def __init__(self, content):
        self.content = content

    def tree_flatten(self):
        return (self.content,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


BOXES = {
    "nnx.Param": nnx.Param,
    "nn.Partitioned": lambda x: nn.Partitioned(x, names=(None,) * x.ndim),
    "one of one's own": NamelessBox,
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_boxes_around_arrays_change_no_names(box):
    plain = {name: network(jax.random.key(0), (3, 4, 4, 2)) for name in ("actor", "critic")}
    boxed = jax.tree.map(box, plain)
    some = {**plain, "critic": boxed["critic"]}
    for tree in (boxed, some, nnx.State(boxed)):
        assert base.leaf_names(tree) == base.leaf_names(plain)
        proportions = jax.tree.leaves(base.layer_proportions(tree))
        assert proportions == 2 * [0, 0, 0.5, 0.5, 1, 1]


def test_attributes_and_sequences_are_names_like_others():
    module = Layers(tuple(Linear(jnp.ones((2, 2)), jnp.ones(2)) for _ in range(11)))
    assert base.leaf_names(module)[-1] == ("layers", "10", "bias")
    proportions = jax.tree.leaves(base.layer_proportions({"actor": module}))
    assert proportions == [i / 10 for i in range(11) for _ in range(2)]


def test_a_value_beside_others_is_a_name():
    tree = {"head": Linear(1.0, 2.0), "value": {"kernel": 1.0}, "rest": nnx.Param(jnp.ones(2))}
    assert base.leaf_names(tree) == [
        ("head", "weight"),
        ("head", "bias"),
        ("rest",),
        ("value", "kernel"),
    ]


def test_what_optax_masks_is_left_out_of_other_trees():
    whole, node = agent(), optax.MaskedNode()
    masked = {"actor": node, "critic": {**whole["critic"], "Dense_0": node}}
    kept = base.unmasked(whole, masked)
    assert jax.tree.structure(kept) == jax.tree.structure(masked)
    assert jax.tree.all(
        jax.tree.map(lambda a, b: a is b, kept["critic"]["Dense_1"], whole["critic"]["Dense_1"])
    )
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, base.unmasked(whole, whole), whole))
    assert flat.flatten(whole, flat.layout_of(masked)).shape == (6,)
