"""The log of a body, written by its consequences (S4).

Every create carries, in `param.headers`, the position at which it was asked for and the
batches the body was given since its last create. A body that only ever ran one call and
then waited for it leaves the header out: call n was asked at position n - 1, after the
batches [1], [2], ... [n - 1]. This file turns the header into text and back, and rebuilds
a body's log from the records of its calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import orjson

from ..errors import NonDeterminismError
from ..protocol.records import Promise
from .ids import order_of

LOG_HEADER = "resonate-aio:log"
FINGERPRINT_HEADER = "resonate-aio:fp"
EXPLICIT_HEADER = "resonate-aio:explicit"
MADE_BY_HEADER = "resonate-aio:made-by"
"""Of a promise with an explicit id: the id of the call that created it."""
VOLATILE_HEADER = "resonate-aio:volatile"
CUT_HEADER = "resonate-aio:cut"
CUT_BY_ITS_BODY = "1"
OUTLIVED_HEADER = "resonate-aio:outlived"
"""Of a call that was cancelled and returned a value: whose cancel that was, as in `CUT_HEADER`."""
LOGS_HEADER = "resonate-aio:logs"
"""What others than a body's own creates carry of its log: header texts by body."""

Batch = tuple[str, ...]
"""What a body was given at once: suffixes of calls, and `!suffix` for an interrupted wait."""

INTERRUPTION = "!"


class Asked(NamedTuple):
    """Asks of one branch at one position, numbers `first` to `last`: some may yet be lost (S8).

    Those between that are not lost are named all the same: they were asked, too.
    """

    branch: str
    first: int
    last: int
    position: int
    waiting: int = 0

    def suffixes(self) -> Iterator[str]:
        """The suffixes of the calls."""
        return (f"{self.branch}{number}" for number in range(self.first, self.last + 1))


def log_header(
    position: int, start: int, gain: list[Batch], named: list[Asked] | None = None
) -> str:
    """The header text: position of the ask, and the batches from number `start` on.

    Args:
        named: Earlier asks whose creates may still be lost.
    """
    parts: tuple[object, ...] = (position, start, gain)
    if named:
        parts = (*parts, [asked[:4] for asked in named])
    return orjson.dumps(parts).decode()


def cut_header(ids: Iterable[str]) -> str:
    """The header text of a cut call under an explicit id: who called it, in vain."""
    return orjson.dumps(list(ids)).decode()


def is_cut_of(id: str, header: str | None) -> bool:
    """Whether the header says that a cancel from its own body reached this call."""
    if header is None or header == CUT_BY_ITS_BODY:
        return header is not None
    try:
        return id in orjson.loads(header)
    except (ValueError, TypeError):
        return False


def logs_header(logs: dict[str, str]) -> str:
    """The header text of logs by body."""
    return orjson.dumps(logs).decode()


def logs_of(id: str, header: str) -> dict[str, str]:
    """The logs that a record carries, by body.

    Raises:
        NonDeterminismError: They cannot be read.
    """
    try:
        return {str(body): str(text) for body, text in orjson.loads(header).items()}
    except (ValueError, AttributeError) as error:
        raise _unreadable(id, error) from None


def _unreadable(id: str, error: Exception) -> NonDeterminismError:
    return NonDeterminismError(
        f"the recorded log of {id!r} cannot be read ({error}): it was written by another "
        "version of the library or altered"
    )


class Recorded:
    """What the store remembers of one body: where each call was asked, and the log so far.

    Attributes:
        positions: Position of the ask, by suffix of the call.
        batches: The log, as far as it was recorded.
        sequential: Whether no call ever needed a header.
    """

    __slots__ = ("batches", "positions", "sequential")

    def __init__(self, body_id: str, records: Iterable[Promise], logs: Iterable[str] = ()) -> None:
        self.positions: dict[str, int] = {}
        self.sequential = True
        known: dict[int, Batch] = {}
        cut = len(body_id) + 1
        by_suffix = sorted((order_of(p.id[cut:]), p.id[cut:], p) for p in records)
        for _, suffix, promise in by_suffix:
            header = (promise.param.headers or {}).get(LOG_HEADER)
            if header is None:
                self._sequential_ask(suffix, known)
            else:
                self.sequential = False
                self.positions[suffix] = self._read(promise.id, header, known)
        for log in logs:
            self.sequential = False
            self._read(body_id, log, known)
        self.batches: list[Batch] = []
        while (batch := known.get(len(self.batches))) is not None:
            self.batches.append(batch)

    def _sequential_ask(self, suffix: str, known: dict[int, Batch]) -> None:
        number = int(suffix) if suffix.isdecimal() else 1
        self.positions[suffix] = number - 1
        if number > 1:
            known.setdefault(number - 2, (str(number - 1),))

    def _read(self, id: str, header: str, known: dict[int, Batch]) -> int:
        try:
            position, start, gain, *named = orjson.loads(header)
            for branch, first, last, asked_at in named[0] if named else ():
                for other in Asked(str(branch), int(first), int(last), 0).suffixes():
                    self.positions.setdefault(other, int(asked_at))
            for offset, batch in enumerate(gain):
                known[int(start) + offset] = tuple(map(str, batch))
            return int(position)
        except (ValueError, TypeError) as error:
            raise _unreadable(id, error) from None
