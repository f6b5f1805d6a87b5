"""Messages over server-sent events, on virtual time and scripted streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import pytest

from resonate_aio.protocol.envelope import message_from_wire
from resonate_aio.protocol.requests import Execute, Message
from resonate_aio.testing import SimLoop
from resonate_aio.transports.sse import SseMessages, SsePatience

T = TypeVar("T")

EXECUTE = b'data: {"kind":"execute","head":{},"data":{"task":{"id":"%s","version":3}}}\n\n'


def execute(id: str) -> bytes:
    return EXECUTE % id.encode()


class Scripted:
    """One scripted stream: a status, then chunks at given times, then an end."""

    def __init__(self, *chunks: tuple[float, bytes], status: int = 200, ends: bool = True) -> None:
        self.status = status
        self._chunks = chunks
        self._ends = ends

    async def chunks(self) -> AsyncIterator[bytes]:
        for wait_s, chunk in self._chunks:
            await asyncio.sleep(wait_s)
            yield chunk
        if not self._ends:
            await asyncio.Event().wait()


class Script:
    """A server that answers each connect with the next stream; the last one again and again."""

    def __init__(self, *streams: Scripted | BaseException, opens_in_s: float = 0.0) -> None:
        self.streams = list(streams)
        self.opened: list[float] = []
        self.closed = 0
        self.asked: list[tuple[str, str]] = []
        self._opens_in_s = opens_in_s

    @asynccontextmanager
    async def endpoint(self, group: str, pid: str) -> AsyncIterator[Any]:
        self.asked.append((group, pid))
        self.opened.append(asyncio.get_running_loop().time())
        stream = self.streams.pop(0) if len(self.streams) > 1 else self.streams[0]
        await asyncio.sleep(self._opens_in_s)
        if isinstance(stream, BaseException):
            raise stream
        try:
            yield stream
        finally:
            self.closed += 1


class Heard:
    """A started source and what it delivers."""

    def __init__(self, *scripts: Script, patience: SsePatience | None = None) -> None:
        self.ids: list[str] = []
        self.connects = 0
        self.source = SseMessages(
            [script.endpoint for script in scripts],
            message_from_wire,
            patience=patience,
            rng=Random(1),
        )

    def deliver(self, message: Message) -> None:
        assert isinstance(message, Execute)
        self.ids.append(message.id)

    def connected(self) -> None:
        self.connects += 1

    async def until(self, seconds: float) -> Heard:
        await self.source.start("group", "pid", self.deliver, self.connected)
        await asyncio.sleep(seconds)
        await self.source.stop()
        return self


def run(work: Callable[[], Awaitable[T]]) -> T:
    loop = SimLoop()
    result = loop.run_until_complete(work())
    assert not [task for task in asyncio.all_tasks(loop) if not task.done()]
    assert not loop.exceptions
    loop.close()
    return result


def test_messages_come_in_order_and_the_stream_is_closed() -> None:
    script = Script(Scripted((1, execute("a")), (1, execute("b") + execute("c")), ends=False))
    heard = run(lambda: Heard(script).until(10))
    assert heard.ids == ["a", "b", "c"]
    assert (heard.connects, script.closed, script.asked) == (1, 1, [("group", "pid")])
    assert not heard.source.is_connected


def test_a_stream_that_ends_is_opened_again_and_says_so() -> None:
    script = Script(Scripted((1, execute("a"))), Scripted((1, execute("b"))), Scripted(ends=False))
    heard = run(lambda: Heard(script).until(30))
    assert (heard.ids, heard.connects, script.closed) == (["a", "b"], 3, 3)


def test_a_message_cut_by_the_end_of_a_stream_is_not_heard() -> None:
    script = Script(Scripted((0, execute("a")[:-1])), Scripted((0, execute("b")), ends=False))
    assert run(lambda: Heard(script).until(30)).ids == ["b"]


def test_no_stream_is_silent_for_ever() -> None:
    """A half-open link: bytes stop, nothing says so; the stream is given up and opened anew."""
    deaf = Scripted((1, execute("a")), ends=False)
    script = Script(deaf, Scripted((1, execute("b")), ends=False))
    patience = SsePatience(silence_s=150)
    heard = run(lambda: Heard(script, patience=patience).until(250))
    assert heard.ids == ["a", "b"]
    assert 150 < script.opened[1] < 170


@pytest.mark.parametrize("idle_s", [301.0, 3600.0, 86_400.0])
def test_after_a_long_silence_the_next_message_is_heard(idle_s: float) -> None:
    """Item 7 of the plan: servers without keep-alives, idle for more than five minutes."""
    alive: list[Callable[[bytes], None]] = []

    class Waiting(Scripted):
        async def chunks(self) -> AsyncIterator[bytes]:
            queue: asyncio.Queue[bytes] = asyncio.Queue()
            alive.append(queue.put_nowait)
            while True:
                yield await queue.get()

    heard = Heard(Script(Waiting()))

    async def main() -> None:
        await heard.source.start("group", "pid", heard.deliver)
        await asyncio.sleep(idle_s)
        assert heard.source.is_connected
        alive[-1](execute("late"))
        await asyncio.sleep(1)
        await heard.source.stop()

    run(main)
    assert heard.ids == ["late"]


def test_a_server_that_sends_keep_alives_is_missed_soon() -> None:
    beats = [(10.0, b": keep-alive\n\n")] * 6
    script = Script(Scripted(*beats, ends=False), Scripted(ends=False))
    run(lambda: Heard(script).until(140))
    assert len(script.opened) == 2
    # Three missed beats after the last one at 60 s, not the patience for silent servers.
    assert 90 <= script.opened[1] <= 95


def test_keep_alives_keep_a_stream() -> None:
    script = Script(Scripted(*[(14.0, b":\n\n")] * 100, ends=False))
    run(lambda: Heard(script).until(1300))
    assert len(script.opened) == 1


def test_reconnects_are_jittered_and_bounded() -> None:
    script = Script(ConnectionError("refused"))
    patience = SsePatience(first_s=0.1, most_s=10)
    run(lambda: Heard(script, patience=patience).until(3600))
    gaps = [after - before for before, after in zip(script.opened, script.opened[1:], strict=False)]
    assert gaps[0] < 0.11
    assert max(gaps) <= 10.001
    assert min(gaps[20:]) >= 5
    assert len(set(gaps[20:])) > 100
    assert 3600 / 10 <= len(gaps) <= 3600 / 5 + 20


def test_a_steady_stream_resets_the_delay() -> None:
    steady = Scripted((60, b":\n\n"))
    script = Script(*[ConnectionError("x")] * 12, steady, steady, Scripted(ends=False))
    run(lambda: Heard(script, patience=SsePatience(silence_s=1e9)).until(600))
    ended_s = script.opened[12] + 60
    assert script.opened[13] - ended_s < 0.11
    assert len(script.opened) == 15


def test_a_short_stream_with_a_message_eases_the_delay() -> None:
    """Law 6: a server restarted again and again has no worker deaf for long, and is not hammered.

    The first delays grow as ever; one message, and the next try is about a second away.
    """
    short = Scripted((0.5, execute("a")))
    script = Script(*[ConnectionError("x")] * 12, *[short] * 20, Scripted(ends=False))
    heard = Heard(script)
    run(lambda: heard.until(200))
    assert heard.ids == ["a"] * 20
    gaps = [after - before for before, after in zip(script.opened, script.opened[1:], strict=False)]
    assert max(gaps[:12]) > 5
    assert all(0.5 + 0.4 <= gap <= 0.5 + 0.8 for gap in gaps[12:32])


def test_streams_that_end_at_once_are_not_hammered() -> None:
    script = Script(Scripted())
    run(lambda: Heard(script).until(600))
    assert len(script.opened) < 600 / 5 + 20


def test_a_server_that_asks_to_wait_longer_is_obeyed() -> None:
    script = Script(Scripted((0, b"retry: 30000\n\n")), Scripted(ends=False))
    run(lambda: Heard(script).until(60))
    assert 30 <= script.opened[1] <= 33.1


def test_an_opening_that_hangs_is_given_up() -> None:
    script = Script(Scripted(ends=False), opens_in_s=1e9)
    run(lambda: Heard(script, patience=SsePatience(open_s=10)).until(100))
    assert len(script.opened) >= 5


def test_where_the_route_is_missing_the_next_endpoint_is_tried_at_once() -> None:
    first = Script(Scripted(status=404))
    second = Script(Scripted((0, execute("a")), ends=False))
    heard = run(lambda: Heard(first, second).until(5))
    assert heard.ids == ["a"]
    assert second.opened == [0]


def test_no_endpoint_anywhere_is_not_hammered() -> None:
    scripts = [Script(Scripted(status=404)), Script(Scripted(status=410))]
    run(lambda: Heard(*scripts).until(600))
    assert 600 / 10 <= len(scripts[0].opened) <= 600 / 5 + 20


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_said_and_not_hammered(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(Scripted(status=status))
    with caplog.at_level(logging.INFO, "resonate_aio.transports"):
        run(lambda: Heard(script).until(600))
    assert len(script.opened) <= 600 / 30 + 1
    assert caplog.records[0].levelno == logging.ERROR
    assert str(status) in caplog.records[0].getMessage()


def test_an_outage_and_its_end_are_said_once_each(caplog: pytest.LogCaptureFixture) -> None:
    """A stream that ends and comes back is not worth a word; one that stays away is."""
    away: list[Scripted | BaseException] = [ConnectionError("refused")] * 4
    first, second = Scripted((6, execute("a"))), Scripted((6, execute("b")))
    script = Script(first, *away, second, Scripted((6, execute("c")), ends=False))
    with caplog.at_level(logging.WARNING, "resonate_aio.transports"):
        heard = run(lambda: Heard(script).until(60))
    assert heard.ids == ["a", "b", "c"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "no message stream (ConnectionError('refused'))" in said[0]
    assert said[1] == "connected again: messages for group/pid are coming"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 302])
def test_any_other_status_is_tried_again(status: int) -> None:
    script = Script(Scripted(status=status), Scripted((0, execute("a")), ends=False))
    assert run(lambda: Heard(script).until(30)).ids == ["a"]


def test_what_cannot_be_read_is_left_out_and_the_stream_goes_on() -> None:
    bad = b"".join(
        [
            b"data: not json\n\n",
            b"data: []\n\n",
            b'data: {"kind":"execute"}\n\n',
            b'data: {"kind":"new","head":{},"data":{}}\n\n',
            b"data: " + b"[" * 100_000 + b"\n\n",
            b"data: \xff\xff\n\n",
        ]
    )
    script = Script(Scripted((0, bad), (0, execute("a")), ends=False))
    heard = run(lambda: Heard(script).until(5))
    assert (heard.ids, len(script.opened)) == (["a"], 1)


def test_a_receiver_that_raises_does_not_end_the_stream() -> None:
    heard: list[Message] = []

    def deliver(message: Message) -> None:
        heard.append(message)
        raise RuntimeError("the receiver's fault")

    script = Script(Scripted((0, execute("a")), (0, execute("b")), ends=False))
    source = SseMessages([script.endpoint], message_from_wire)

    async def main() -> None:
        await source.start("g", "p", deliver)
        await asyncio.sleep(1)
        await source.stop()

    run(main)
    assert heard == [Execute("a", 3), Execute("b", 3)]


def test_messages_cut_at_every_byte_are_heard_whole() -> None:
    raw = execute("grüße-1") + execute("b")
    for size in (1, 2, 3, 7):
        chunks = [(0.0, raw[at : at + size]) for at in range(0, len(raw), size)]
        heard = Heard(Script(Scripted(*chunks, ends=False)))
        run(lambda heard=heard: heard.until(2))  # type: ignore[misc]
        assert heard.ids == ["grüße-1", "b"]


def test_start_and_stop_again() -> None:
    script = Script(Scripted((0, execute("a")), ends=False))
    heard = Heard(script)

    async def main() -> None:
        await heard.source.stop()
        await heard.until(1)
        await heard.source.stop()
        await heard.until(1)
        await heard.source.start("group", "pid", heard.deliver)
        await heard.source.start("group", "pid", heard.deliver)  # the one before is closed first
        await asyncio.sleep(1)
        await heard.source.stop()

    run(main)
    assert (heard.ids, script.closed) == (["a"] * 3, 3)
