"""Server-sent events: bytes in, events out, by the rules of the WHATWG HTML standard §9.2.

Fed with whatever a socket gives: a chunk may end anywhere, also inside a UTF-8 character or
between CR and LF. Lines are taken apart as bytes, for CR and LF never occur inside a UTF-8
character, and decoded one by one. An event larger than the limit is skipped whole and
counted, so that one message cannot fill the memory or end the stream. This file knows no
socket, no time and no message.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

LIMIT_BYTES: Final = 16 * 1024 * 1024
"""An unblock message carries a whole promise; servers refuse larger ones."""

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"[\r\n]")
_CR: Final = 13
_LF: Final = b"\n"


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event.

    Attributes:
        data: The data lines, joined with line feeds.
        name: The event's name, `message` where none was sent.
        last_id: The last id the stream has named so far.
    """

    data: str
    name: str = "message"
    last_id: str = ""


class SseParser:
    """Takes one stream of server-sent events apart.

    Args:
        limit_bytes: Largest line, and largest data of one event, that is kept.

    Attributes:
        comments: Comment lines seen so far: what servers send to keep a stream alive.
        skipped: Events left out because they were too large.
        retry_ms: The reconnection time the server asked for, if it did.
    """

    __slots__ = (
        "_at_start",
        "_buffer",
        "_data",
        "_last_id",
        "_limit_bytes",
        "_name",
        "_scanned",
        "_size_bytes",
        "_skip_line",
        "_skips_event",
        "_swallow_lf",
        "comments",
        "retry_ms",
        "skipped",
    )

    def __init__(self, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._at_start = True
        self._swallow_lf = False
        self._skip_line = False
        self._skips_event = False
        self._data: list[str] = []
        self._size_bytes = 0
        self._name = ""
        self._last_id = ""
        self.comments = 0
        self.skipped = 0
        self.retry_ms: int | None = None

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that this chunk completes.

        What the stream leaves unfinished when it ends is no event: drop the parser then.
        """
        buffer = self._buffer
        buffer += chunk
        if self._at_start and not self._past_bom():
            return []
        events: list[SseEvent] = []
        start = 0
        while True:
            if self._swallow_lf and start < len(buffer):
                self._swallow_lf = False
                if buffer[start : start + 1] == _LF:
                    start += 1
                    self._scanned = max(self._scanned, start)
            found = _LINE_END.search(buffer, max(self._scanned, start))
            if found is None:
                break
            end = found.start()
            self._line(bytes(buffer[start:end]), events)
            self._swallow_lf = buffer[end] == _CR
            self._scanned = start = end + 1
        del buffer[:start]
        self._scanned = len(buffer)
        if len(buffer) > self._limit_bytes:
            # The rest of this line is of no use: forget what came of it.
            self._skip_line = True
            buffer.clear()
            self._scanned = 0
        return events

    def _past_bom(self) -> bool:
        """One byte order mark at the very start is no part of the stream."""
        buffer = self._buffer
        if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
            return False
        if buffer.startswith(_BOM):
            del buffer[: len(_BOM)]
        self._at_start = False
        return True

    def _line(self, line: bytes, events: list[SseEvent]) -> None:
        if self._skip_line or len(line) > self._limit_bytes:
            self._skip_line = False
            self._skips_event = True
            return
        if not line:
            self._dispatch(events)
            return
        name, colon, rest = line.partition(b":")
        if not name and colon:
            self.comments += 1
            return
        self._field(name, rest[1:] if rest.startswith(b" ") else rest)

    def _field(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self._size_bytes += len(value) + 1
            if self._size_bytes > self._limit_bytes + 1:
                self._skips_event = True
                self._data.clear()
            else:
                self._data.append(value.decode(errors="replace"))
        elif name == b"event":
            self._name = value.decode(errors="replace")
        elif name == b"id":
            if b"\0" not in value:
                self._last_id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._skips_event:
            self.skipped += 1
        elif self._data:
            events.append(SseEvent("\n".join(self._data), self._name or "message", self._last_id))
        self._data.clear()
        self._size_bytes = 0
        self._name = ""
        self._skips_event = False
