"""The text form that Prometheus reads."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.server.wire import FAR_MS, FixedClock, Wire, serving

from resonate_aio.protocol import requests as r
from resonate_aio.server import Limits
from resonate_aio.server.metrics import Counter, Gauge, Histogram, Metrics, Total
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

SAMPLE = re.compile(r'[a-z_]+(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})? -?\d+(\.\d+)?')


def test_a_counter() -> None:
    counter = Counter("c_total", "Told.", "kind", "status")
    counter.add("b", "200")
    counter.add("a", "200", count=3)
    counter.add("b", "200")
    assert list(counter.lines()) == [
        "# HELP c_total Told.",
        "# TYPE c_total counter",
        'c_total{kind="a",status="200"} 3',
        'c_total{kind="b",status="200"} 2',
    ]
    assert counter.value("b", "404") == 0


def test_a_histogram_is_cumulative() -> None:
    histogram = Histogram("h_seconds", "Told.", "kind")
    for seconds in (0.0005, 0.002, 0.002, 4.0, 60.0):
        histogram.observe("a", seconds)
    lines = list(histogram.lines())
    counts = [int(line.rpartition(" ")[2]) for line in lines if "_bucket" in line]
    assert counts == [1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 5]
    assert lines[-3] == 'h_seconds_bucket{kind="a",le="+Inf"} 5'
    assert lines[-2] == 'h_seconds_sum{kind="a"} 64.004500'
    assert lines[-1] == 'h_seconds_count{kind="a"} 5'


def test_a_gauge_is_read_when_asked() -> None:
    values = iter([1, 2])
    metrics = Metrics(Gauge("g", "Told.", lambda: next(values)))
    assert "\ng 1\n" in metrics.render()
    assert "\ng 2\n" in metrics.render()


def test_a_total_is_a_counter_that_is_read_when_asked() -> None:
    assert list(Total("t_total", "Told.", lambda: 3).lines()) == [
        "# HELP t_total Told.",
        "# TYPE t_total counter",
        "t_total 3",
    ]


MINUTE_MS = 60_000


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_promises_of_schedules_are_counted_once(kind: str, tmp_path: Path) -> None:
    """R7: a tick whose promise was there creates nothing, and is not counted."""
    clock = FixedClock(MINUTE_MS - 10)
    path = tmp_path / "server.db"
    store = MemoryStore(clock=clock) if kind == "memory" else SqliteStore(path, clock=clock)
    assert store.scheduled == 0
    async with serving(store) as (_, wire):
        assert await scheduled(wire) == 0
        await wire.ask(r.PromiseCreate(f"s-{2 * MINUTE_MS}", FAR_MS))
        await wire.ask(r.ScheduleCreate("s", "* * * * *", "{{.id}}-{{.timestamp}}", MINUTE_MS))
        assert await scheduled(wire) == 0
        clock.ms = 3 * MINUTE_MS  # three ticks are due when the timer looks, 10 ms from here
        async with asyncio.timeout(10):
            while not await scheduled(wire):  # noqa: ASYNC110  the page tells no event
                await asyncio.sleep(0.005)
        for tick in (1, 2, 3):
            answer = await wire.ask(r.PromiseGet(f"s-{tick * MINUTE_MS}"))
            tags = answer.data["promise"]["tags"]
            assert tags.get("resonate:schedule") == (None if tick == 2 else "s")
        assert await scheduled(wire) == 2


async def scheduled(wire: Wire) -> int:
    """What the page says of promises that schedules created."""
    page = (await wire.get("/metrics")).body.decode()
    assert "\n# TYPE resonate_schedule_promises_total counter\n" in page
    return int(re.findall(r"^resonate_schedule_promises_total (\d+)$", page, re.MULTILINE)[0])


async def test_every_line_of_the_page_is_well_formed() -> None:
    async with serving() as (_, wire):
        await wire.ask(r.PromiseCreate("p", FAR_MS))
        await wire.send('made"up\n', {})
        answer = await wire.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    page = answer.body.decode()
    assert page.endswith("\n")
    for line in page.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or SAMPLE.fullmatch(line), line
    assert 'resonate_request_total{kind="unknown",status="400"} 1' in page
    assert 'resonate_request_total{kind="promise.create",status="200"} 1' in page


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})
