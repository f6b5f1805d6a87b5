"""How long to wait after trouble: growing, jittered, bounded (law 8).

Pure: randomness comes in, the waiting is the caller's. There is no bound on the number of
tries, for trouble is not an outcome; there is one on their rate.
"""

from __future__ import annotations

from random import Random


class Backoff:
    """The delays of one row of failed tries.

    Args:
        first_s: Upper end of the first delay, in seconds.
        most_s: What no delay exceeds, in seconds.
        rng: Where the jitter comes from: each delay is drawn from its upper half.
    """

    __slots__ = ("_first_s", "_most_s", "_rng", "failures")

    def __init__(self, first_s: float, most_s: float, rng: Random) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._rng = rng
        self.failures = 0

    def next_s(self, at_least_s: float = 0.0) -> float:
        """Seconds to wait before the next try; one more failure is counted.

        Args:
            at_least_s: What the other side asked for (Retry-After); it is kept even where it
                exceeds the bound, up to six times that.
        """
        # After 30 doublings the bound has long been reached: no overflow however often it fails.
        grown_s = self._first_s * float(1 << min(self.failures, 30))
        self.failures += 1
        drawn_s = min(grown_s, self._most_s) * (0.5 + self._rng.random() / 2)
        return max(drawn_s, min(at_least_s, 6 * self._most_s) * (1 + self._rng.random() / 10))

    def succeeded(self) -> None:
        """The next failure is a first one again."""
        self.failures = 0
