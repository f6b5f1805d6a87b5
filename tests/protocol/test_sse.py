"""The parser of server-sent events: whole, byte by byte, and cut at every place."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonate_aio.protocol.sse import SseEvent, SseParser


def events(raw: bytes, *, limit_bytes: int = 1 << 20) -> list[SseEvent]:
    return SseParser(limit_bytes=limit_bytes).feed(raw)


def data(raw: bytes) -> list[str]:
    return [event.data for event in events(raw)]


STREAMS: list[tuple[bytes, list[str]]] = [
    (b"", []),
    (b"data: one\n\n", ["one"]),
    (b"data: one\r\rdata: two\r\n\r\ndata: three\n\n", ["one", "two", "three"]),
    (b"\xef\xbb\xbfdata: after a byte order mark\n\n", ["after a byte order mark"]),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata: only one is dropped\n\n", []),
    (b"\xef\xbbdata: half a mark\n\n", []),
    (b"data: a\ndata: b\ndata\n\n", ["a\nb\n"]),
    (b"data\n\n", [""]),
    (b"data:no space\ndata:  two spaces\n\n", ["no space\n two spaces"]),
    (b": a comment\n\n:\n\ndata: x\n\n", ["x"]),
    (b"data: unfinished\n", []),
    (b"data: unfinished", []),
    (b"\n\n\ndata: x\n\n\n", ["x"]),
    (b"unknown: y\nDATA: upper case is unknown\ndata: x\n\n", ["x"]),
    (b"event: only a name\n\ndata: x\n\n", ["x"]),
    ("data: grüße \U0001f642 €\n\n".encode(), ["grüße \U0001f642 €"]),
    (b"data: \xff\xfe broken\n\n", ["\ufffd\ufffd broken"]),
    (b"data: line separator \xe2\x80\xa8 is text\n\n", ["line separator \u2028 is text"]),
    (b'data: {"kind":"execute"}\r\n\r\n', ['{"kind":"execute"}']),
    (b"data: a\x00b\n\n", ["a\x00b"]),
]


@pytest.mark.parametrize(("raw", "expected"), STREAMS)
def test_whole(raw: bytes, expected: list[str]) -> None:
    assert data(raw) == expected


@pytest.mark.parametrize(("raw", "expected"), STREAMS)
def test_byte_by_byte(raw: bytes, expected: list[str]) -> None:
    parser = SseParser()
    got = [event.data for byte in raw for event in parser.feed(bytes([byte]))]
    assert got == expected


@pytest.mark.parametrize(("raw", "expected"), STREAMS)
def test_cut_at_every_place(raw: bytes, expected: list[str]) -> None:
    for cut in range(len(raw) + 1):
        parser = SseParser()
        parts = [*parser.feed(raw[:cut]), *parser.feed(b""), *parser.feed(raw[cut:])]
        assert [event.data for event in parts] == expected, cut


def test_name_id_and_retry() -> None:
    raw = (
        b"event: unblock\nid: 7\nretry: 250\ndata: a\n\n"
        b"data: b\n\n"
        b"id: bad\0id\nretry: 2s\nretry: -1\ndata: c\n\n"
        b"id\ndata: d\n\n"
    )
    parser = SseParser()
    assert parser.feed(raw) == [
        SseEvent("a", "unblock", "7"),
        SseEvent("b", "message", "7"),
        SseEvent("c", "message", "7"),
        SseEvent("d", "message", ""),
    ]
    assert parser.retry_ms == 250


def test_comments_are_counted_for_they_keep_a_stream_alive() -> None:
    parser = SseParser()
    parser.feed(b":\n: keep-alive\r\ndata: x\n\n:")
    assert parser.comments == 2


@pytest.mark.parametrize(
    "large",
    [
        b"data: " + b"x" * 200 + b"\n",
        b"data: " + b"x" * 60 + b"\ndata: " + b"x" * 60 + b"\n",
        b":" + b"x" * 200 + b"\n",
        b"data: x\nevent: " + b"x" * 400 + b"\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_what_is_too_large_is_left_out_and_the_rest_goes_on(large: bytes, size: int) -> None:
    raw = b"data: before\n\n" + large + b"data: same event\n\ndata: after\n\n"
    parser = SseParser(limit_bytes=100)
    got: list[str] = []
    for start in range(0, len(raw), size):
        got += [event.data for event in parser.feed(raw[start : start + size])]
        assert len(parser._buffer) <= 100 + size
    assert got == ["before", "after"]
    assert parser.skipped == 1


def test_an_endless_line_costs_no_memory_and_no_time() -> None:
    parser = SseParser(limit_bytes=1000)
    for _ in range(2000):
        assert parser.feed(b"x" * 500) == []
        assert len(parser._buffer) <= 1500
    assert [event.data for event in parser.feed(b"\n\ndata: x\n\n")] == ["x"]


def test_a_large_event_in_small_bits_takes_linear_time() -> None:
    # Were the line searched from its start each time, this would be 10^10 steps.
    parser = SseParser(limit_bytes=1 << 20)
    bit = b"y" * 4
    for _ in range(100_000):
        parser.feed(bit)
    assert parser.feed(b"\ndata: x\n\n") == [SseEvent("x")]


LINES = st.sampled_from(
    [b"data: a", b"data:", b"data", b": c", b"", b"event: e", b"id: 3", b"data: \xc3\xa4", b"z"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.lists(st.integers(0, 300), max_size=8))
def test_chunking_never_matters(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    # A lone CR before a line that begins with LF would be read as one CRLF by any parser.
    raw = b"".join(line + end for line, end in lines)
    whole = SseParser()
    expected = whole.feed(raw)
    parser = SseParser()
    got: list[SseEvent] = []
    places = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    for start, end in pairwise(places):
        got += parser.feed(raw[start:end])
    assert got == expected
    assert parser.comments == whole.comments
