"""Learned updates as compiled kernels for CPUs; see README.md. All that others may import."""

from learned_opt.kernels.build import KERNELS, wanted
from learned_opt.kernels.call import vary_alike
from learned_opt.kernels.open_update import OpenSpec, Operands, Plan, pack_open, run_open
from learned_opt.kernels.recurrent_update import (
    MAX_HIDDEN_SIZE,
    RecurrentSpec,
    Totals,
    Update,
    make_stretch,
    make_update,
    recurrent_wanted,
)
from learned_opt.kernels.stretch import Stretch, StretchedTransform, StretchResult, stretch_of

__all__ = [
    "KERNELS",
    "MAX_HIDDEN_SIZE",
    "OpenSpec",
    "Operands",
    "Plan",
    "RecurrentSpec",
    "Stretch",
    "StretchResult",
    "StretchedTransform",
    "Totals",
    "Update",
    "make_stretch",
    "make_update",
    "pack_open",
    "recurrent_wanted",
    "run_open",
    "stretch_of",
    "vary_alike",
    "wanted",
]
