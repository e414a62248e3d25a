"""What an outer loop is: all that the training loop knows of how theta is trained."""

from typing import Any, Protocol

import jax

from learned_opt.base import MetaParams
from meta.engine.population import ProgressFunction

MetaState = Any  # one pytree; a checkpoint is that pytree, and a resumed run continues bit for bit


class MetaTrainer(Protocol):
    """Evolution strategies or meta-gradients, on one or several tasks."""

    @property
    def unit(self) -> str:
        """What one meta-step is called, in the singular."""
        ...

    @property
    def env_steps_per_step(self) -> int:
        """Environment steps of one meta-step."""
        ...

    def init(self, key: jax.Array) -> MetaState:
        """The state before the first meta-step."""
        ...

    def initial_theta(self, key: jax.Array) -> MetaParams:
        """The theta that ``init`` starts from with the same key."""
        ...

    def step(
        self, state: MetaState, on_progress: ProgressFunction | None = None
    ) -> tuple[MetaState, dict[str, float]]:
        """One meta-step; ``state`` may be consumed. ``on_progress`` may raise to stop."""
        ...

    def theta(self, state: MetaState) -> MetaParams:
        """The current theta."""
        ...

    def steps_done(self, state: MetaState) -> int:
        """Meta-steps done."""
        ...

    def headline(self, metrics: dict[str, float]) -> dict[str, float]:
        """What a progress bar shows of a step's metrics."""
        ...
