"""Learned and handcrafted optimizers behind one contract; see ``learned_opt.base``."""

from learned_opt.base import CONTEXT_NAMES, LearnedOptimizer, MetaParams
from learned_opt.files.serialization import TrainedOptimizer, convert_pickle, load, save
from learned_opt.handcrafted import PRESETS, make_tunable, preset
from learned_opt.modules import UpdateRule, from_flax, from_haiku
from learned_opt.registry import is_handcrafted, make, names, register, register_handcrafted

__all__ = [
    "CONTEXT_NAMES",
    "PRESETS",
    "LearnedOptimizer",
    "MetaParams",
    "TrainedOptimizer",
    "UpdateRule",
    "convert_pickle",
    "from_flax",
    "from_haiku",
    "is_handcrafted",
    "load",
    "make",
    "make_tunable",
    "names",
    "preset",
    "register",
    "register_handcrafted",
    "save",
]
