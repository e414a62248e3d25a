"""Live logs of a run: TensorBoard, and Weights & Biases where it is asked for."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Protocol

from meta.runs.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class LogSettings:
    """Which logs a run keeps.

    Attributes:
      tensorboard: write TensorBoard's files into the run's folder.
      wandb_project: of Weights & Biases; empty: none.
    """

    tensorboard: bool = True
    wandb_project: str = ""


class Log(Protocol):
    """Something that takes a row of scalars."""

    def write(self, step: int, row: dict[str, float]) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Workdir, first_step: int):
        from tensorboardX import SummaryWriter

        # What an interrupted run wrote beyond its checkpoint is marked as void.
        self.writer = SummaryWriter(str(folder.tensorboard), purge_step=first_step + 1)

    def write(self, step: int, row: dict[str, float]) -> None:
        for name, value in row.items():
            if math.isfinite(value):
                self.writer.add_scalar(name, value, step)
        self.writer.flush()


class _WeightsAndBiases:
    def __init__(self, folder: Workdir, project: str):
        try:
            import wandb
        except ImportError as error:
            raise ValueError(
                "logging.wandb_project is set, but wandb is not installed: "
                "pip install 'lopt-rl[wandb]', or leave it empty"
            ) from error
        name = folder.path.name
        self.run = wandb.init(project=project, id=name, name=name, resume="allow")

    def write(self, step: int, row: dict[str, float]) -> None:
        self.run.log(row, step=step)


class _All:
    def __init__(self, logs: list[Log]):
        self._logs = logs

    def write(self, step: int, row: dict[str, float]) -> None:
        for log in self._logs:
            log.write(step, row)


@contextlib.contextmanager
def open_logs(folder: Workdir, settings: LogSettings, first_step: int) -> Iterator[Log]:
    """The logs that are asked for.

    Args:
      folder: of the run.
      settings: which.
      first_step: meta-steps done before.
    """
    with contextlib.ExitStack() as stack:
        logs: list[Log] = []
        if settings.tensorboard:
            board = _TensorBoard(folder, first_step)
            stack.callback(board.writer.close)
            logs.append(board)
        if settings.wandb_project:
            live = _WeightsAndBiases(folder, settings.wandb_project)
            stack.callback(live.run.finish)
            logs.append(live)
        yield _All(logs)
