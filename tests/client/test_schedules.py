"""Schedules: each tick one execution, whoever is there (mission M10, K20; R7), in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.client.lives import Lives, ticks, utc, where

from resonate_aio import Context, Resonate
from resonate_aio.errors import FunctionNotFoundError, ResonateError, ResonateStoreError
from resonate_aio.machine.cron import fault_of
from resonate_aio.protocol.records import PromiseState

Make = Callable[..., Lives]
TAG = {"resonate:schedule": "report"}


@pytest.fixture(params=["memory", "sqlite"])
def lives(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def make(start: str) -> Lives:
        return Lives(where(request.param, tmp_path), utc(start))

    return make


def program(ran: list[str]) -> Callable[[Resonate], Any]:
    """A client that knows `report`, which takes 20 s between two steps."""

    async def begin(ctx: Context, region: str) -> str:
        ran.append(ctx.id.rpartition(".")[0])
        return region

    def register(resonate: Resonate) -> Any:
        @resonate.register
        async def report(ctx: Context, region: str) -> str:
            region = await ctx.run(begin, region)
            await ctx.sleep(20)
            return f"{region} {ctx.id}"

        return report

    return register


async def all_of(resonate: Resonate) -> dict[str, PromiseState]:
    return {p.id: p.state async for p in resonate.promises.search(tags=TAG, limit=3)}


def test_a_function_is_started_at_every_tick(lives: Make) -> None:
    """Mission K20: the high-level way, with arguments, in virtual time."""
    ran: list[str] = []

    async def main(resonate: Resonate) -> Any:
        report = program(ran)(resonate)
        schedule = await resonate.schedule("report", report, "* * * * *", "north")
        assert (schedule.id, schedule.cron) == ("report", "* * * * *")
        await asyncio.sleep(200)
        first = min(await all_of(resonate))
        return await resonate.get(first), await all_of(resonate)

    result, found = lives("2024-05-01 12:00:30").life(main)
    assert ticks(found) == ["01 12:01:00", "01 12:02:00", "01 12:03:00"]
    assert set(found.values()) == {PromiseState.RESOLVED}
    assert result == f"north {min(found)}"
    assert ticks(ran) == ticks(found)


def test_owners_one_after_the_other_fire_each_tick_once(lives: Make) -> None:
    """Mission K20, M10: stops, a kill and a long absence between owners; every tick runs once."""
    ran: list[str] = []
    world = lives("2024-05-01 12:00:30")

    async def creates(resonate: Resonate) -> None:
        report = program(ran)(resonate)
        await resonate.schedule("report", report, "*/2 * * * *", "north")
        await asyncio.sleep(100)  # 12:02 and its first step: stopped while it sleeps

    async def is_killed(resonate: Resonate) -> None:
        program(ran)(resonate)
        await resonate.start()
        await asyncio.sleep(115)  # 12:04: killed while it sleeps

    async def catches_up(resonate: Resonate) -> dict[str, PromiseState]:
        program(ran)(resonate)
        await resonate.start()
        await asyncio.sleep(100)
        return await all_of(resonate)

    world.life(creates)
    world.life(is_killed, killed=True)
    world.sleep_until(utc("2024-05-01 12:11:00"))
    found = world.life(catches_up)

    expected = [f"01 12:{minute:02}:00" for minute in (2, 4, 6, 8, 10, 12)]
    assert ticks(found) == expected
    assert set(found.values()) == {PromiseState.RESOLVED}
    assert set(Counter(ran).values()) == {1}, "a recorded step never starts again"
    assert ticks(ran) == expected


def test_ticks_missed_in_a_long_stop(lives: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Mission K20, R7: a week's absence; what is past its own deadline times out, unrun.

    A deadline counts from the tick, as the specification says, and the log says how many.
    """
    ran: list[str] = []
    world = lives("2024-05-01 12:00:00")

    async def creates(resonate: Resonate) -> None:
        report = program(ran)(resonate)
        await resonate.options(timeout=7_200).schedule("report", "0 * * * *", report, "north")

    async def catches_up(resonate: Resonate) -> dict[str, PromiseState]:
        program(ran)(resonate)
        await resonate.start()
        await asyncio.sleep(60)
        return await all_of(resonate)

    world.life(creates)
    world.sleep_until(utc("2024-05-08 12:30:00"))
    found = world.life(catches_up)
    assert len(found) == 7 * 24
    by_state = Counter(found.values())
    assert by_state == {PromiseState.TIMEDOUT: 166, PromiseState.RESOLVED: 2}
    assert ticks(ran) == ["08 11:00:00", "08 12:00:00"]
    [said] = [record for record in caplog.records if "missed" in record.getMessage()]
    assert said.levelno == logging.WARNING
    assert said.getMessage().startswith("schedule 'report': 166 missed ticks timed out")


def test_a_very_long_stop_is_one_line(lives: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Law 14: however many sweeps it takes to catch up; promises without a target say nothing."""
    world = lives("2024-05-01 12:00:00")

    async def creates(resonate: Resonate) -> None:
        for id, tags in (("runs", {"resonate:target": "nobody"}), ("is-awaited", {})):
            await resonate.schedules.create(
                id, "* * * * *", "{{.id}}-{{.timestamp}}", 1_000, promise_tags=tags
            )

    async def catches_up(resonate: Resonate) -> None:
        await resonate.start()
        await asyncio.sleep(30)

    world.life(creates)
    world.sleep_until(utc("2024-05-03 12:00:30"))
    world.life(catches_up)
    said = [text for text in caplog.messages if "missed" in text]
    assert [text.partition(" timed out")[0] for text in said] == [
        "schedule 'runs': 2880 missed ticks"
    ]


@pytest.mark.parametrize("given", ["prefix", "name", "zone"])
def test_a_schedule_keeps_the_clock_of_its_zone(lives: Make, given: str) -> None:
    """Mission M10: nine o'clock in Berlin, before and after its clocks go forward."""

    async def main(resonate: Resonate) -> dict[str, PromiseState]:
        zone: Any = {"prefix": None, "name": "Europe/Berlin", "zone": ZoneInfo("Europe/Berlin")}
        cron = "CRON_TZ=Europe/Berlin 0 9 * * *" if given == "prefix" else "0 9 * * *"
        schedule = await resonate.schedules.create(
            "report", cron, "r-{{.timestamp}}", 1_000, timezone=zone[given]
        )
        assert schedule.cron == "CRON_TZ=Europe/Berlin 0 9 * * *"
        await asyncio.sleep(3 * 86_400)
        return await all_of(resonate)

    found = lives("2024-03-29 12:00:00").life(main)
    assert ticks(found) == ["30 08:00:00", "31 07:00:00", "01 07:00:00"]


async def test_schedules_by_hand() -> None:
    """Mission M10: create, get, search, delete, and everything the promises carry."""
    async with Resonate() as resonate:
        schedule = await resonate.schedules.create(
            "s",
            "0 0 1 1 *",
            "{{.id}}/{{.timestamp}}",
            60_000,
            ikey="k",
            description="once a year",
            tags={"team": "a"},
            promise_headers={"h": "1"},
            promise_value=[1, 2],
            promise_tags={"kind": "yearly", "resonate:target": "elsewhere"},
        )
        assert schedule.promise_id == "{{.id}}/{{.timestamp}}"
        assert schedule.promise_timeout_ms == 60_000
        assert schedule.promise_param.data == "[1,2]"
        assert (schedule.promise_param.headers or {})["h"] == "1"
        assert "once a year" in (schedule.promise_param.headers or {}).values()
        assert schedule.promise_tags["resonate:target"] == "poll://any@elsewhere"
        assert await resonate.schedules.get("s") == schedule
        await resonate.schedules.create("t", "@daily", "x-{{.timestamp}}", 1)
        assert [s.id async for s in resonate.schedules.search(limit=1)] == ["s", "t"]
        assert [s.id for s in await resonate.schedules.search(tags={"team": "a"})] == ["s"]
        assert (await resonate.schedules.search(limit=1)).cursor == "s"
        await resonate.schedules.delete("s")
        with pytest.raises(ResonateStoreError, match="'s'") as raised:
            await resonate.schedules.get("s")
        assert raised.value.code == 404
        with pytest.raises(ResonateStoreError):
            await resonate.schedules.delete("s")


async def test_a_schedule_that_exists_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Mission M10, S52: one warning for another definition, an error for another key."""
    async with Resonate() as resonate:
        first = await resonate.schedules.create("s", "0 0 * * *", "x{{.timestamp}}", 1, ikey="k")
        again = await resonate.schedules.create("s", "0 0 * * *", "x{{.timestamp}}", 1, ikey="k")
        assert again == first
        assert not caplog.records
        other = await resonate.schedules.create("s", "0 1 * * *", "x{{.timestamp}}", 1, ikey="k")
        assert other == first
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "cron" in caplog.text
        for key in ("other", None):
            with pytest.raises(ResonateStoreError, match="'k'") as raised:
                await resonate.schedules.create("s", "0 0 * * *", "x{{.timestamp}}", 1, ikey=key)
            assert raised.value.code == 409


async def test_an_id_that_every_tick_would_share_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server takes it, so it is created; only its first tick would ever do anything."""
    async with Resonate() as resonate:
        for template in ("x-{{.timestamp}}", "{{.id}}/{{.timestamp}}", "always", "{{.id}}"):
            made = await resonate.schedules.create(f"s/{template}", "@daily", template, 1_000)
            assert made.promise_id == template
    assert [text.partition(" has ")[0] for text in caplog.messages] == [
        "schedule 's/always': promise_id 'always'",
        "schedule 's/{{.id}}': promise_id '{{.id}}'",
    ]


async def nightly(ctx: Context, region: str = "north") -> str:
    return region


@pytest.mark.parametrize(
    "arguments",
    [
        ("s", nightly, "@daily"),
        ("s", "@daily", nightly),
        ("s", "nightly", "@daily"),
        ("s", "0 0 * * *", "nightly", "south"),
    ],
)
async def test_function_and_cron_in_either_order(arguments: tuple[Any, ...]) -> None:
    """Mission table 1.12 l: both historical orders (mission K20)."""
    async with Resonate() as resonate:
        resonate.register(nightly)
        schedule = await resonate.options(target="here", version=1).schedule(*arguments)
        assert schedule.cron in {"@daily", "0 0 * * *"}
        assert '"func":"nightly"' in (schedule.promise_param.data or "")
        assert schedule.promise_tags["resonate:target"] == "poll://any@here"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", nightly, "@daily"), "id"),
        (("s", nightly, "every day"), "'every day'"),
        (("s", nightly, "61 * * * *"), "61"),
        (("s", nightly, "CRON_TZ=Mars/Olympus 0 0 * * *"), "Mars"),
        (("s", nightly, "0 0 30 2 *"), "30 2"),
        (("s", nightly, 5), "5"),
        (("s", 5, "@daily"), "5"),
        (("s", "@daily", "@hourly"), "which"),
        (("s", nightly, "@daily", 1, 2), "nightly"),
        (("s", nightly, "@daily", object()), "object"),
        (("s\0", nightly, "@daily"), "NUL"),
    ],
)
async def test_wrong_schedules_store_nothing(arguments: tuple[Any, ...], message: str) -> None:
    """It must show 5: refused at the call."""
    async with Resonate() as resonate:
        resonate.register(nightly)
        with pytest.raises((TypeError, ValueError, ResonateError), match=message):
            await resonate.schedule(*arguments)
        assert [s async for s in resonate.schedules.search()] == []


@pytest.mark.parametrize("unknown", [nightly, lambda ctx: 1])
async def test_a_schedule_takes_no_function_object_that_is_not_registered(unknown: Any) -> None:
    """Mission K20: each tick would leave an execution that nobody can run; a name may be theirs."""
    async with Resonate() as resonate:
        for arguments in ((unknown, "@daily"), ("@daily", unknown)):
            with pytest.raises(FunctionNotFoundError, match="is not registered: put @resonate"):
                await resonate.schedule("s", *arguments)
        assert [s async for s in resonate.schedules.search()] == []
        assert (await resonate.schedule("s", "nightly", "@daily")).id == "s"


@pytest.mark.parametrize(
    ("cron", "fault"),
    [
        ("61 * * * *", r"minute '61' is not 0 to 59"),
        ("0 24 * * *", r"hour '24' is not 0 to 23"),
        ("0 9 1,32 * *", r"day of month '32' in '1,32' is not 1 to 31"),
        ("0 9 * 13 *", r"month '13' is not 1 to 12 or JAN to DEC"),
        ("0 9 * * Montag", r"day of week 'Montag' is not 0 to 7"),
        ("*/0 * * * *", r"minute '\*/0' is not .* a step"),
        ("99 0 9 * * *", r"second '99' is not 0 to 59"),
        ("0 9 * *", r"it has 4 fields, not five"),
        ("0 9 30 2 *", r"no day there is has this month and day of month"),
        ("@dayly", r"'@dayly' is none of .*@daily"),
        ("@every 5 minutes", r"is no span"),
        ("CRON_TZ=Mars/Olympus 0 9 * * *", r"no time zone 'Mars/Olympus'"),
        ("0 9 * * " + "1," * 200, r"longer than"),
    ],
)
async def test_what_is_wrong_with_a_cron_is_said(cron: str, fault: str) -> None:
    """Which field, and what is allowed there; the same for both ways to make a schedule."""
    async with Resonate() as resonate:
        with pytest.raises(ValueError, match=fault):
            await resonate.schedules.create("s", cron, "p", 1000)
        with pytest.raises(ValueError, match=fault):
            await resonate.schedule("s", "report", cron)
        found = await resonate.schedules.search()
        assert not found.items


@pytest.mark.parametrize(
    "cron", ["0 9 L * *", "0 9 * * 5L", "0 9 * * 1#2", "0 0 29 2 *", "@every 1s"]
)
def test_a_cron_without_fault(cron: str) -> None:
    assert fault_of(cron) is None


def test_a_function_is_told_its_tick(lives: Make) -> None:
    """The instant it stands for, also when it was caught up with long after."""
    seen: list[tuple[str, float | None, float | None]] = []

    async def step(ctx: Context) -> float | None:
        return ctx.info.scheduled_at

    async def main(resonate: Resonate) -> None:
        @resonate.register
        async def report(ctx: Context) -> None:
            seen.append((ctx.id, ctx.info.scheduled_at, await ctx.run(step)))

        if not (await resonate.schedules.search()).items:
            await resonate.schedule("report", report, "0 9 * * *")
        await asyncio.sleep(60)
        await resonate.run(f"by-hand-{len(seen)}", report)

    world = lives("2024-05-01 08:59:30")
    world.life(main)
    world.sleep_until(utc("2024-05-03 12:00"))
    world.life(main)
    ticks_s = [utc(f"2024-05-0{day} 09:00").timestamp() for day in (1, 2, 3)]
    scheduled = [(at, below) for id, at, below in seen if not id.startswith("by-hand")]
    assert sorted(scheduled) == [(tick_s, tick_s) for tick_s in ticks_s]  # in any order
    assert [at for id, at, _ in seen if id.startswith("by-hand")] == [None, None]
