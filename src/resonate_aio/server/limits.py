"""What the server bears: every size, number and wait that a client could otherwise choose."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one server. What is over a bound is refused or cut off, never stored.

    Attributes:
        body_bytes: The largest request body (413 beyond it).
        bodies_bytes: Bodies being read at a time, all together (503 beyond it).
        header_bytes: The longest request line and the longest header (400 beyond it).
        header_count: The most headers of one request (400 beyond it).
        connections: Open connections; further ones are closed at once.
        streams: Open `/poll` streams (503 beyond it).
        header_s: How long a client may take over the head of a request.
        body_s: How long a client may take over the body of a request.
        write_s: How long a client may leave what is sent to it unread.
        dead_s: How long what was sent may stay unacknowledged by the client's machine.
        idle_s: How long a connection may stay open between requests.
        keep_alive_s: The pace of the comments on a quiet stream.
        queue_messages: Messages of each kind that wait for one stream.
        queue_bytes: Bytes that wait for one stream, all messages together.
        drain_s: How long requests under way may take when the server stops.
        failures: Wrong tokens of one peer in a minute that are answered without a pause.
    """

    body_bytes: int = 4 * 1024 * 1024
    bodies_bytes: int = 64 * 1024 * 1024
    header_bytes: int = 8190
    header_count: int = 100
    connections: int = 2_000
    streams: int = 1_000
    header_s: float = 10.0
    body_s: float = 20.0
    write_s: float = 10.0
    dead_s: float = 30.0
    idle_s: float = 75.0
    keep_alive_s: float = 10.0
    queue_messages: int = 1_000
    queue_bytes: int = 16 * 1024 * 1024
    drain_s: float = 10.0
    failures: int = 10

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, is {getattr(self, name)}")
