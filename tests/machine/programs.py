"""Random programs: requests and sweeps over few ids, few instants and few versions."""

from __future__ import annotations

from hypothesis import strategies as st
from tests.machine.checked import EXTERNAL, HERE, TARGET, TIMER

from resonate_aio.protocol.records import PromiseState, Value
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    ScheduleSearch,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSearch,
    TaskSuspend,
)

Program = list[tuple[Request | None, int]]
"""(request, or None for a sweep; the instant)."""

ids = st.sampled_from(["a", "b", "c", "d", "s-60000", "s-120000"])
tags = st.sampled_from(
    [
        {},
        TARGET,
        TARGET | {"resonate:branch": "a"},
        TARGET | TIMER,
        TARGET | {"resonate:delay": "30"},
        EXTERNAL,
        TIMER,
        {"resonate:scope": "global"},
        {"resonate:branch": "a"},
    ]
)
targeted = st.sampled_from([TARGET, TARGET | {"resonate:branch": "a"}])
deadlines = st.sampled_from([0, 40, 100, 90_000, 1_000_000])
values = st.sampled_from([Value(), Value(data="1")])
versions = st.integers(0, 4)
pids = st.sampled_from(["p", "q"])
ttls = st.sampled_from([1, 20, 70_000])
addresses = st.sampled_from([HERE, "http://there/"])
verdicts = st.sampled_from(
    [PromiseState.RESOLVED, PromiseState.REJECTED, PromiseState.CANCELED, PromiseState.TIMEDOUT]
)
creates = st.builds(PromiseCreate, ids, deadlines, tags=tags)
settles = st.builds(PromiseSettle, ids, verdicts, values)


@st.composite
def suspends(draw: st.DrawFn) -> TaskSuspend:
    id = draw(ids)
    awaited = draw(st.lists(ids, max_size=3))
    actions = tuple(PromiseRegisterCallback(each, id) for each in awaited)
    return TaskSuspend(id, draw(versions), actions)


@st.composite
def fulfills(draw: st.DrawFn) -> TaskFulfill:
    id = draw(ids)
    return TaskFulfill(id, draw(versions), PromiseSettle(id, draw(verdicts), draw(values)))


refs = st.lists(st.builds(TaskRef, ids, versions), max_size=3).map(tuple)

requests: st.SearchStrategy[Request] = st.one_of(
    creates,
    settles,
    st.builds(PromiseGet, ids),
    st.builds(PromiseRegisterCallback, ids, ids),
    st.builds(PromiseRegisterListener, ids, addresses),
    st.builds(PromiseSearch, st.none() | st.sampled_from(PromiseState)),
    st.builds(TaskGet, ids),
    st.builds(TaskCreate, pids, ttls, st.builds(PromiseCreate, ids, deadlines, tags=targeted)),
    st.builds(TaskAcquire, ids, versions, pids, ttls),
    st.builds(TaskFence, ids, versions, creates | settles),
    st.builds(TaskHeartbeat, pids, refs),
    suspends(),
    fulfills(),
    st.builds(TaskRelease, ids, versions),
    st.builds(TaskHalt, ids),
    st.builds(TaskContinue, ids),
    st.builds(TaskSearch),
    st.builds(
        ScheduleCreate,
        st.just("s"),
        st.just("* * * * *"),
        st.just("{{.id}}-{{.timestamp}}"),
        st.sampled_from([0, 1, 50_000]),
        promise_tags=targeted,
    ),
    st.builds(ScheduleGet, st.just("s")),
    st.builds(ScheduleDelete, st.just("s")),
    st.builds(ScheduleSearch),
)

paces = st.sampled_from([0, 0, 0, 1, 10, 20, 30_000])


@st.composite
def programs(draw: st.DrawFn) -> Program:
    now_ms = 0
    program: Program = []
    for request in draw(st.lists(requests | st.none(), max_size=40)):
        now_ms += draw(paces)
        program.append((request, now_ms))
    return program
