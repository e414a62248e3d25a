"""How many iterations a compiled call runs: as many as leave a run able to stop within seconds."""

import time
from collections.abc import Iterator, Sequence

_SECONDS_PER_CALL = 2.0


class Pace:
    """Cuts runs into calls by how long iterations have taken so far."""

    def __init__(self) -> None:
        self._seconds = float("inf")  # of an iteration, the least so far

    def calls(self, ends: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yields (iterations of the next call, all with these), and times what is done with them.

        Args:
          ends: iterations at which a call must end, rising; the run ends at the last.
        """
        done = 0
        for end in ends:
            while done < end:
                # The first call compiles, and is of one iteration.
                count = min(end - done, max(1, int(_SECONDS_PER_CALL / self._seconds)))
                done += count
                began = time.monotonic()
                yield count, done
                seconds = max(time.monotonic() - began, 1e-6)  # clocks may stand still
                self._seconds = min(self._seconds, seconds / count)
