"""Optimizers whose derivative is cheaper for many updates at once than one by one.

Such an optimizer's updates are functions of theta, gradients and their own state alone. It
says so by the type of its ``transform``; what wraps it with another one says nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from learned_opt import base


class StretchResult(NamedTuple):
    """What S updates of the same parameters leave.

    Attributes:
      params: after the last update.
      squared_norm: sum of the squared norms of the updates, float32 scalar.
    """

    params: base.Params
    squared_norm: jax.Array


# (theta, state before the first update, gradients ``[S, D]`` in the order of
# ``flat.flatten``, result) -> result. The given result is what these S updates are known to
# leave; the function adds the derivative in theta, the gradients being constants.
Stretch = Callable[..., StretchResult]


@dataclasses.dataclass(frozen=True)
class StretchedTransform:
    """The ``transform`` of a ``LearnedOptimizer`` that has the derivative of a stretch.

    Attributes:
      transform: what ``LearnedOptimizer.transform`` is otherwise.
      stretch: gives the function where it can be used in this process, otherwise None.
    """

    transform: Callable[[base.MetaParams], optax.GradientTransformationExtraArgs]
    stretch: Callable[[], Stretch | None]

    def __call__(self, theta: base.MetaParams) -> optax.GradientTransformationExtraArgs:
        return self.transform(theta)


def stretch_of(optimizer: base.LearnedOptimizer) -> Stretch | None:
    """The optimizer's derivative of a whole stretch, where it has one that can be used."""
    transform = optimizer.transform
    return transform.stretch() if isinstance(transform, StretchedTransform) else None
