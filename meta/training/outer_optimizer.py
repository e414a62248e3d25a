"""The optimizer of theta in meta-gradient training: any optax chain."""

from typing import Any

import optax

from learned_opt.names import did_you_mean

# Those of optax that need nothing but a learning rate and gradients.
OPTIMIZERS = (
    *("adabelief", "adagrad", "adam", "adamax", "adamw", "lamb"),
    *("lion", "nadam", "radam", "rmsprop", "sgd", "yogi"),
)
CLIPS = ("norm", "value", "none")


def make(
    name: str,
    learning_rate: float,
    options: dict[str, Any],
    *,
    clip: str,
    clip_size: float,
    learning_rate_decay: float = 1.0,
) -> optax.GradientTransformation:
    """Clipping, then an optimizer by its name in optax.

    Args:
      name: e.g. ``adam``.
      learning_rate: > 0.
      options: further arguments of the optax function.
      clip: ``norm`` scales a gradient down whose global norm is above ``clip_size`` (and leaves
        smaller ones as they are), ``value`` clips each element, ``none`` does nothing.
      clip_size: > 0.
      learning_rate_decay: the rate is multiplied with it at each meta-step; in (0, 1].

    Raises:
      ValueError: something is unknown or out of range; names it.
    """
    if name not in OPTIMIZERS:
        hint = did_you_mean(name, list(OPTIMIZERS))
        raise ValueError(f"unknown outer optimizer {name!r}{hint}; known: {', '.join(OPTIMIZERS)}")
    if learning_rate <= 0 or not 0 < learning_rate_decay <= 1:
        raise ValueError(
            "outer.learning_rate must be above 0 and outer.learning_rate_decay in (0, 1], got "
            f"{learning_rate} and {learning_rate_decay}"
        )
    schedule = optax.exponential_decay(learning_rate, 1, learning_rate_decay)
    try:
        optimizer = getattr(optax, name)(schedule, **options)
    except TypeError as error:
        raise ValueError(f"outer.optimizer_options do not fit optax.{name}: {error}") from error
    return optax.chain(_clipping(clip, clip_size), optimizer)


def _clipping(clip: str, size: float) -> optax.GradientTransformation:
    if clip not in CLIPS:
        hint = did_you_mean(clip, list(CLIPS))
        raise ValueError(f"outer.clip must be one of {', '.join(CLIPS)}, got {clip!r}{hint}")
    if clip != "none" and size <= 0:
        raise ValueError(f"outer.clip_size must be above 0, got {size}")
    if clip == "norm":
        return optax.clip_by_global_norm(size)
    return optax.clip(size) if clip == "value" else optax.identity()
