"""Telling the user what a run costs, how far it is, and stopping it when asked."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Stopped(Exception):
    """The user asked the run to stop."""

    def __init__(self, signal_number: int):
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class StopRequest:
    """Remembers that SIGINT or SIGTERM came; ``check`` raises ``Stopped`` then.

    Args:
      answer: what the user is told when one comes.
    """

    def __init__(self, answer: str = "stopping: saving what is done ...") -> None:
        self._signal: int | None = None
        self._answer = answer

    def check(self, *_: object) -> None:
        if self._signal is not None:
            raise Stopped(self._signal)

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Takes the signals over within the block; a second one acts as usual."""
        handled: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in handled}

        def remember(number: int, frame: object) -> None:
            self._signal = number
            signal.signal(number, before[number])
            print(f"\n{self._answer}", file=sys.stderr, flush=True)

        for number in handled:
            signal.signal(number, remember)
        try:
            yield self
        finally:
            for number in handled:
                signal.signal(number, before[number])


class Progress:
    """A progress bar over steps that report shares of themselves.

    On a terminal it is a live bar; elsewhere a line at most every 20 seconds.

    Args:
      label: shown in front.
      total: number of steps.
      done: steps done before (a resumed run).
      stop: asked at every report.
    """

    def __init__(self, label: str, total: int, stop: StopRequest, done: int = 0):
        self._stop = stop
        self._done = done
        interactive = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            mininterval=0.5 if interactive else 20.0,
            bar_format="{desc}: {percentage:3.0f}%|{bar:20}| {n:.2f}/{total} "
            "[{elapsed}<{remaining}{postfix}]",
            dynamic_ncols=interactive,
        )

    def share(self, share: float) -> None:
        """The step under way is done to this share."""
        self._bar.n = self._done + share
        self._bar.update(0)
        self._stop.check()

    def step(self, **values: float) -> None:
        """A step is done; shows values beside the bar."""
        self._done += 1
        self._bar.set_postfix({k: f"{v:.4g}" for k, v in values.items()}, refresh=False)
        self._bar.n = self._done
        self._bar.update(0)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def duration(seconds: float) -> str:
    """``1 h 05 min``, ``3 min 20 s``, ``12 s``."""
    seconds = round(seconds)
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def count(number: float) -> str:
    """``1.6e9`` as ``1.6 billion``, and so on."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"


def size(num_bytes: float) -> str:
    """Bytes as MiB or GiB."""
    if num_bytes >= 2**30:
        return f"{num_bytes / 2**30:.2f} GiB"
    return f"{num_bytes / 2**20:.1f} MiB"
