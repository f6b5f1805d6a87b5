"""What falls due: internal steps, deadlines, redelivery, schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest
from tests.machine.checked import (
    ADDRESS,
    EXTERNAL,
    FAR,
    HERE,
    ONE,
    RETRY_TIMEOUT,
    TARGET,
    TTL,
    CheckedMachine,
    execute,
)

from resonate_aio.machine import PromiseMachine
from resonate_aio.machine.cron import occurrences
from resonate_aio.machine.schedules import NEVER_MS
from resonate_aio.protocol.records import Promise, PromiseState, TaskState
from resonate_aio.protocol.requests import (
    PromiseCreate,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    TaskCreate,
    TaskHeartbeat,
    TaskRef,
)


def held(n: int) -> TaskCreate:
    return TaskCreate("p", TTL, PromiseCreate(f"t{n}", FAR, tags=TARGET))


def test_nothing_is_due_in_an_empty_machine(m: CheckedMachine) -> None:
    assert m.next_due_ms() is None
    m.swept(FAR)
    assert not m.changed


def test_a_retry_timeout_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PromiseMachine(retry_timeout_ms=0)


def test_r1_settles_and_drains_in_one_step(m: CheckedMachine) -> None:
    m.create("x", EXTERNAL, until=10)
    m.listen("x", HERE)
    m.held()
    m.suspend("x")
    m.changed.clear()
    assert m.next_due_ms() == 10
    m.swept(12)
    assert list(m.changed) == ["x", "t"]
    assert m.promises["x"].settled_at_ms == 10
    assert list(m.outbox) == [("unblock", "x", HERE), ("execute", "t")]
    assert m.tasks["t"].resumes == ("x",)
    assert m.next_due_ms() == 12 + RETRY_TIMEOUT


def test_r5_gives_the_task_back_and_dispatches_it(m: CheckedMachine) -> None:
    m.held()
    assert m.next_due_ms() == TTL
    m.swept(TTL - 1)
    assert m.tasks["t"].state is TaskState.ACQUIRED
    m.swept(TTL + 3)
    task = m.tasks["t"]
    assert (task.state, task.version, task.pid, task.ttl_ms) == (TaskState.PENDING, 1, None, None)
    assert (task.expires_at_ms, task.retry_at_ms) == (None, TTL + 3 + RETRY_TIMEOUT)
    assert m.sent() == [execute(version=1)]


def test_r6_redelivers_until_the_task_is_taken(m: CheckedMachine) -> None:
    m.create("t", TARGET)
    assert m.outbox == {("execute", "t"): (ADDRESS, execute())}
    m.sent()
    for n in (1, 2, 3):
        assert m.next_due_ms() == n * RETRY_TIMEOUT
        m.swept(n * RETRY_TIMEOUT)
        assert m.sent() == [execute()]
    m.acquire(now=3 * RETRY_TIMEOUT)
    m.swept(4 * RETRY_TIMEOUT)
    assert m.sent() == []


def test_a_sweep_is_repeatable(m: CheckedMachine) -> None:
    m.create("t", TARGET, until=10)
    m.swept(10)
    m.changed.clear()
    m.swept(10)
    m.swept(5)
    assert not m.changed


def test_a_limited_sweep_leaves_the_rest_due(m: CheckedMachine) -> None:
    for n in range(5):
        m.create(f"x{n}", EXTERNAL, until=10)
    m.sweep(10, limit=2)
    assert sum(p.state is PromiseState.TIMEDOUT for p in m.promises.values()) == 2
    assert m.next_due_ms() == 10
    m.sweep(10, limit=3)
    assert m.next_due_ms() is None


def test_the_heap_stays_small_under_heartbeats() -> None:
    m = PromiseMachine()
    for n in range(1_000):
        m.handle(held(n), 0)
    refs = tuple(TaskRef(f"t{n}", 1) for n in range(1_000))
    for now in range(1, 200):
        m.handle(TaskHeartbeat("p", refs), now)
    assert len(m.deadlines) == 2_000
    assert m.next_due_ms() == 199 + TTL


def test_the_heap_stays_small_under_steps_settled_long_before_their_deadline() -> None:
    m = PromiseMachine()
    m.handle(held(0), 0)
    for n in range(10_000):
        promise = Promise(f"t0.{n}", PromiseState.PENDING, FAR, 1, tags=EXTERNAL)
        m.fence_create("t0", 1, promise, 1)
        m.fence_settle("t0", 1, promise.id, PromiseState.RESOLVED, ONE, 1)
        assert len(m.deadlines) < 200
    assert m.next_due_ms() == TTL


def test_a_deadline_comes_before_lease_and_retry_however_short_the_sweep(
    m: CheckedMachine,
) -> None:
    m.held(until=TTL + 1)
    m.checked(lambda: m.sweep(TTL + 1, limit=1), TTL + 1, background=True)
    assert m.tasks["t"].state is TaskState.FULFILLED
    assert m.sent() == []
    m.ask(EVERY_MINUTE, TTL + 1)
    m.checked(lambda: m.sweep(FAR, limit=1), FAR, background=True)
    assert m.tasks["s-120000"].state is TaskState.PENDING
    assert ("execute", "s-120000") not in m.outbox


def test_redispatch_offers_what_the_subscriber_can_take(m: CheckedMachine) -> None:
    other = {"resonate:target": "poll://any@others"}
    m.create("t", TARGET)
    m.create("other", other)
    m.create("later", TARGET | {"resonate:delay": "500"})
    m.create("dead", TARGET, until=5)
    m.held("held")
    m.sent()
    m.checked(lambda: m.redispatch(lambda target: target == ADDRESS, 5), 5)
    assert m.sent() == [execute()]
    assert m.tasks["t"].retry_at_ms == 5 + RETRY_TIMEOUT


def test_redispatch_waits_out_a_lapse_but_not_a_redelivery(m: CheckedMachine) -> None:
    m.held()
    m.swept(TTL)
    m.checked(lambda: m.postpone("t", TTL + 4_000, lapses=2), TTL)
    assert m.sent() == []
    m.redispatch(lambda _: True, TTL + 1)
    assert m.sent() == []
    assert m.next_due_ms() == TTL + 4_000
    m.swept(TTL + 4_000)
    assert m.sent() == [execute(version=1)]
    m.redispatch(lambda _: True, TTL + 4_001)
    assert m.sent() == [execute(version=1)]
    m.acquire(version=1, now=TTL + 4_002)
    assert m.tasks["t"].lapses == 2
    m.complete(version=2, now=TTL + 4_003)
    assert m.tasks["t"].lapses == 0


def test_only_a_pending_task_is_postponed(m: CheckedMachine) -> None:
    m.held()
    with pytest.raises(ValueError, match="not pending"):
        m.postpone("t", 5)


def test_end_lease_is_r5_before_its_time(m: CheckedMachine) -> None:
    m.held()
    m.checked(lambda: m.end_lease("t", 5), 5)
    assert m.tasks["t"].state is TaskState.PENDING
    assert m.sent() == [execute(version=1)]
    m.end_lease("t", 5)
    assert m.sent() == []


# -- schedules

HOUR = 3_600_000
END_OF_9999_MS = 253_402_300_799_000
EVERY_MINUTE = ScheduleCreate(
    "s", "* * * * *", "{{.id}}-{{.timestamp}}", 90_000, promise_tags=TARGET | {"k": "v"}
)


def test_a_schedule_fires_a_promise_as_at_its_instant(m: CheckedMachine) -> None:
    created = m.ask(EVERY_MINUTE, 60_000).schedule
    assert created is not None
    assert (created.created_at_ms, created.next_run_at_ms) == (60_000, 120_000)
    m.swept(120_007)
    promise = m.get("s-120000", now=120_007)
    assert (promise.created_at_ms, promise.timeout_at_ms) == (120_000, 210_000)
    assert promise.tags == {
        **TARGET,
        "k": "v",
        "resonate:schedule": "s",
        "resonate:origin": "s-120000",
        "resonate:branch": "s-120000",
        "resonate:parent": "s-120000",
    }
    assert m.sent() == [execute("s-120000")]
    schedule = m.ask(ScheduleGet("s"), 120_007).schedule
    assert schedule is not None
    assert (schedule.last_run_at_ms, schedule.next_run_at_ms) == (120_000, 180_000)


def test_the_lineage_of_a_scheduled_promise_is_its_own_whatever_its_tags_say(
    m: CheckedMachine,
) -> None:
    """current-protocol §8: origin, branch and parent are the expanded id; so is the stamp."""
    stamps = ("resonate:origin", "resonate:branch", "resonate:parent", "resonate:schedule")
    tags = TARGET | dict.fromkeys(stamps, "somebody.else")
    m.ask(ScheduleCreate("s", "* * * * *", "{{.id}}-{{.timestamp}}", 90_000, promise_tags=tags), 0)
    m.swept(60_000)
    assert m.get("s-60000", now=60_000).tags == {
        **TARGET,
        **dict.fromkeys(stamps, "s-60000"),
        "resonate:schedule": "s",
    }
    assert list(m.branches) == ["s-60000"]


def test_missed_instants_whose_promise_is_past_its_deadline_are_not_dispatched(
    m: CheckedMachine,
) -> None:
    m.ask(EVERY_MINUTE, 0)
    m.swept(300_000)
    states = {id: promise.state for id, promise in m.promises.items()}
    assert states == {
        "s-60000": PromiseState.TIMEDOUT,
        "s-120000": PromiseState.TIMEDOUT,
        "s-180000": PromiseState.TIMEDOUT,
        "s-240000": PromiseState.PENDING,
        "s-300000": PromiseState.PENDING,
    }
    assert m.sent() == [execute("s-240000"), execute("s-300000")]


def test_a_long_miss_is_caught_up_a_thousand_at_a_time(m: CheckedMachine) -> None:
    m.handle(EVERY_MINUTE, 0)
    end = 2_500 * 60_000
    counts = []
    while (due := m.next_due_ms()) is not None and due <= end:
        m.changed.clear()
        m.sweep(end)
        counts.append(sum(id.startswith("s-") for id in m.changed))
    assert counts == [1_000, 1_000, 500]


def test_an_existing_id_is_left_alone_and_the_schedule_moves_on(m: CheckedMachine) -> None:
    standing = m.create("s-60000", until=FAR).promise
    m.ask(EVERY_MINUTE, 0)
    m.swept(60_000)
    assert m.get("s-60000", now=60_000) == standing
    assert m.next_due_ms() == 120_000


def test_a_deleted_schedule_fires_no_more(m: CheckedMachine) -> None:
    m.ask(EVERY_MINUTE, 0)
    m.changed_schedules.clear()
    assert m.ask(ScheduleDelete("s"), 1).status == 200
    assert list(m.changed_schedules) == ["s"]
    assert m.schedules == {}
    assert m.next_due_ms() is None
    m.swept(FAR)
    assert m.promises == {}


@pytest.mark.parametrize(
    ("cron", "after", "first"),
    [
        ("* * * * *", 0, [60_000, 120_000]),
        ("* * * * *", 59_999, [60_000, 120_000]),
        ("*/10 * * * * *", 10_000, [20_000, 30_000]),
        ("0 0 1 1 *", 0, [31_536_000_000]),
        ("* * * * *", END_OF_9999_MS, []),
        ("* * * * *", 2**60, []),
        ("nonsense", 0, []),
        ("* " * 1_000, 0, []),
        ("TZ=UTC 0 0 1 1 *", 0, [31_536_000_000]),
        ("CRON_TZ=Asia/Kolkata 0 9 * * *", 0, [3.5 * HOUR, 27.5 * HOUR]),
        ("TZ=Asia/Kolkata */10 * * * * *", 10_000, [20_000, 30_000]),
        ("TZ=Nowhere/Land 0 9 * * *", 0, []),
        ("TZ=../../etc/passwd 0 9 * * *", 0, []),
        ("TZ=Europe 0 9 * * *", 0, []),  # a folder of zones
        ("TZ= 0 9 * * *", 0, []),
        ("TZ=UTC", 0, []),
        ("TZ=UTC nonsense", 0, []),
        ("@hourly", 1, [HOUR, 2 * HOUR]),
        ("@daily", 0, [24 * HOUR, 48 * HOUR]),
        ("@midnight", 0, [24 * HOUR]),
        ("@weekly", 0, [3 * 24 * HOUR]),  # the epoch was a Thursday
        ("@monthly", 0, [31 * 24 * HOUR]),
        ("@yearly", 0, [365 * 24 * HOUR]),
        ("@annually", 0, [365 * 24 * HOUR]),
        ("TZ=Asia/Kolkata @daily", 0, [18.5 * HOUR]),
        ("@every 1h30m", 7, [1.5 * HOUR + 7, 3 * HOUR + 7]),
        ("@every 90s", 0, [90_000, 180_000]),
        ("@every 0s", 0, []),
        ("@every 1d", 0, []),
        ("@every", 0, []),
        ("@every 1s", END_OF_9999_MS, []),
        ("@reboot", 0, []),
    ],
)
def test_cron(cron: str, after: int, first: list[float]) -> None:
    instants = occurrences(cron, after)
    assert [instant for instant, _ in zip(instants, first, strict=False)] == first
    if not first:
        assert next(occurrences(cron, after), None) is None


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        # Clocks in Berlin skip from 02:00 to 03:00 on 31 March 2024 ...
        ("30 2 * * *", ["03-30T01:30", "03-31T01:00", "04-01T00:30"]),
        ("0 9 * * *", ["03-30T08:00", "03-31T07:00", "04-01T07:00"]),
        # ... and every hour of the day that exists has its run.
        ("0 * 31 3 *", ["03-30T23:00", "03-31T00:00", "03-31T01:00", "03-31T02:00"]),
    ],
)
def test_summer_time_begins(cron: str, expected: list[str]) -> None:
    after = datetime(2024, 3, 29, 12, tzinfo=UTC).timestamp()
    assert runs(f"TZ=Europe/Berlin {cron}", after, len(expected)) == expected


def test_summer_time_ends() -> None:
    """What falls into the hour that comes twice runs once (clocks go from 03:00 to 02:00)."""
    after = datetime(2024, 10, 26, 12, tzinfo=UTC).timestamp()
    expected = ["10-27T00:30", "10-28T01:30", "10-29T01:30"]
    assert runs("TZ=Europe/Berlin 30 2 * * *", after, 3) == expected


def runs(cron: str, after_s: float, count: int) -> list[str]:
    instants = islice(occurrences(cron, int(after_s * 1000)), count)
    return [datetime.fromtimestamp(at / 1000, UTC).strftime("%m-%dT%H:%M") for at in instants]


def test_a_calendar_that_runs_out_ends_the_schedule(m: CheckedMachine) -> None:
    m.ask(ScheduleCreate("s", "59 59 23 31 12 *", "x{{.timestamp}}", 1), END_OF_9999_MS - 10_000)
    m.swept(END_OF_9999_MS)
    assert f"x{END_OF_9999_MS}" in m.promises
    assert m.schedules["s"].next_run_at_ms == NEVER_MS
