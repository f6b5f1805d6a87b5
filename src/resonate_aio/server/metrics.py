"""Counters, gauges and histograms, and their text form for Prometheus.

The names are those of the Resonate server (current-protocol §10) where it has the same thing.
Labels come from fixed sets only, so that no client can make the page grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final

_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Counter:
    """A number that only grows, one per combination of labels."""

    __slots__ = ("_label_names", "_values", "meaning", "name")

    def __init__(self, name: str, meaning: str, *label_names: str) -> None:
        self.name = name
        self.meaning = meaning
        self._label_names = label_names
        self._values: dict[tuple[str, ...], int] = {}
        if not label_names:
            self._values[()] = 0

    def add(self, *labels: str, count: int = 1) -> None:
        """Count something once more under these label values."""
        self._values[labels] = self._values.get(labels, 0) + count

    def value(self, *labels: str) -> int:
        """How often it was counted under these label values."""
        return self._values.get(labels, 0)

    def lines(self) -> Iterator[str]:
        """The lines of the text form."""
        yield from _head(self.name, self.meaning, "counter")
        for labels, value in sorted(self._values.items()):
            yield f"{self.name}{_braces(zip(self._label_names, labels, strict=True))} {value}"


class Gauge:
    """A number that is read when somebody asks."""

    __slots__ = ("_read", "meaning", "name")

    _kind = "gauge"

    def __init__(self, name: str, meaning: str, read: Callable[[], int]) -> None:
        self.name = name
        self.meaning = meaning
        self._read = read

    def lines(self) -> Iterator[str]:
        """The lines of the text form."""
        yield from _head(self.name, self.meaning, self._kind)
        yield f"{self.name} {self._read()}"


class Total(Gauge):
    """A number that only grows and that somebody else counts, read when somebody asks."""

    __slots__ = ()

    _kind = "counter"


class Histogram:
    """How long things took, in seconds, by one label."""

    __slots__ = ("_label_name", "_seen", "meaning", "name")

    def __init__(self, name: str, meaning: str, label_name: str) -> None:
        self.name = name
        self.meaning = meaning
        self._label_name = label_name
        self._seen: dict[str, tuple[list[int], list[float]]] = {}

    def observe(self, label: str, seconds: float) -> None:
        """Note that something took this long."""
        seen = self._seen.get(label)
        if seen is None:
            seen = self._seen[label] = ([0] * (len(_BUCKETS_S) + 1), [0.0])
        seen[0][bisect_left(_BUCKETS_S, seconds)] += 1
        seen[1][0] += seconds

    def lines(self) -> Iterator[str]:
        """The lines of the text form: cumulative buckets, sum and count."""
        yield from _head(self.name, self.meaning, "histogram")
        for label, (counts, total) in sorted(self._seen.items()):
            own = (self._label_name, label)
            below = 0
            for bound, count in zip(_BUCKETS_S, counts, strict=False):
                below += count
                yield f"{self.name}_bucket{_braces((own, ('le', f'{bound:g}')))} {below}"
            below += counts[-1]
            yield f"{self.name}_bucket{_braces((own, ('le', '+Inf')))} {below}"
            yield f"{self.name}_sum{_braces((own,))} {total[0]:.6f}"
            yield f"{self.name}_count{_braces((own,))} {below}"


class Metrics:
    """What one server counts."""

    __slots__ = (
        "_all",
        "connections_refused",
        "cut_off",
        "deliveries",
        "durations",
        "messages",
        "requests",
        "unauthorized",
    )

    def __init__(self, *gauges: Gauge) -> None:
        self.requests = Counter(
            "resonate_request_total", "Requests answered, by kind and status.", "kind", "status"
        )
        self.durations = Histogram(
            "resonate_request_duration_seconds", "How long a request took to answer.", "kind"
        )
        self.messages = Counter(
            "resonate_messages_total", "Messages handed to a stream or a push.", "kind"
        )
        self.deliveries = Counter("resonate_deliveries_total", "What became of messages.", "status")
        self.unauthorized = Counter("resonate_unauthorized_total", "Requests answered with 401.")
        self.connections_refused = Counter(
            "resonate_connections_refused_total", "Connections closed because there were too many."
        )
        self.cut_off = Counter(
            "resonate_connections_cut_off_total", "Slow or deaf clients cut off.", "reason"
        )
        self._all: tuple[Counter | Gauge | Histogram, ...] = (
            self.requests,
            self.durations,
            self.messages,
            self.deliveries,
            self.unauthorized,
            self.connections_refused,
            self.cut_off,
            *gauges,
        )

    def render(self) -> str:
        """Everything in the text form that Prometheus reads."""
        return "".join(f"{line}\n" for metric in self._all for line in metric.lines())


def _head(name: str, meaning: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"


def _braces(labels: Iterator[tuple[str, str]] | Labels | zip[tuple[str, str]]) -> str:
    inner = ",".join(f'{name}="{value}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""
