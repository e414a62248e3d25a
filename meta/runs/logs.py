"""Live logs of a run: TensorBoard, and Weights & Biases where it is asked for."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator

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


# Takes a row of scalars: (meta-step, values by name).
Log = Callable[[int, dict[str, float]], None]


@contextlib.contextmanager
def open_logs(folder: Workdir, settings: LogSettings, first_step: int) -> Iterator[Log]:
    """The logs that are asked for, as one.

    Args:
      folder: of the run.
      settings: which.
      first_step: meta-steps done before.
    """
    with contextlib.ExitStack() as stack:
        logs: list[Log] = []
        if settings.tensorboard:
            logs.append(stack.enter_context(_tensorboard(folder, first_step)))
        if settings.wandb_project:
            logs.append(stack.enter_context(_weights_and_biases(folder, settings.wandb_project)))

        def write(step: int, row: dict[str, float]) -> None:
            for log in logs:
                log(step, row)

        yield write


@contextlib.contextmanager
def _tensorboard(folder: Workdir, first_step: int) -> Iterator[Log]:
    from tensorboardX import SummaryWriter

    # What an interrupted run wrote beyond its checkpoint is marked as void.
    with SummaryWriter(str(folder.tensorboard), purge_step=first_step + 1) as writer:

        def write(step: int, row: dict[str, float]) -> None:
            for name, value in row.items():
                if math.isfinite(value):
                    writer.add_scalar(name, value, step)
            writer.flush()

        yield write


@contextlib.contextmanager
def _weights_and_biases(folder: Workdir, project: str) -> Iterator[Log]:
    try:
        import wandb
    except ImportError as error:
        raise ValueError(
            "logging.wandb_project is set, but wandb is not installed: "
            "pip install 'lopt-rl[wandb]', or leave it empty"
        ) from error
    name = folder.path.name
    run = wandb.init(project=project, id=name, name=name, resume="allow")
    try:
        yield lambda step, row: run.log(row, step=step)
    finally:
        run.finish()
