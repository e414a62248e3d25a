"""What a published number is."""

from typing import NamedTuple


class Published(NamedTuple):
    """A final return that a project published.

    Attributes:
      task: the environment's short name.
      optimizer: its name there.
      value: the final return.
      env_steps: environment steps of the runs that it is of.
      statistic: ``iqm`` or ``mean`` over seeds, or ``not said``.
      seeds: how many.
      exact: False if the value was read off a figure.
      source: where it stands.
    """

    task: str
    optimizer: str
    value: float
    env_steps: int
    statistic: str
    seeds: int
    exact: bool
    source: str
