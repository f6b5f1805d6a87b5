"""The switches of current-protocol §13: what each lets through and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.wire import FAR_MS, serving

from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import PromiseState
from resonate_aio.server import SPECIFICATION, Rules
from resonate_aio.server.rules import refusal

DOT = Rules(ids="dot", empty_heartbeat=False)
COLON = Rules(ids="colon", empty_heartbeat=False)
SETTLE = PromiseState.RESOLVED


def create(id: str, **tags: str) -> r.PromiseCreate:
    return r.PromiseCreate(id, FAR_MS, tags={f"resonate:{name}": tag for name, tag in tags.items()})


def suspend(id: str, *awaited: str) -> r.TaskSuspend:
    return r.TaskSuspend(id, 1, tuple(r.PromiseRegisterCallback(one, id) for one in awaited))


def beat(*ids: str) -> r.TaskHeartbeat:
    return r.TaskHeartbeat("p", tuple(r.TaskRef(id, 1) for id in ids))


# (request, refused by dot, refused by colon); the default refuses none of them.
CASES: list[tuple[r.Request, bool, bool]] = [
    (create("any.thing:at.all"), False, False),
    (create("a.1", origin="a", branch="a", parent="a"), False, True),
    (create("a:1", origin="a", branch="a", parent="a"), True, False),
    (create("a", origin="a", branch="a", parent="a", prefix="a"), False, False),
    (create("my.app", origin="my.app"), True, False),
    (create("my.app:1", origin="my.app", parent="my.app"), True, False),
    (create("my:app.1", origin="my:app"), False, True),
    (create("a:1.2", origin="a", parent="a:1"), True, False),
    (create("a:1:2", origin="a", parent="a:1"), True, True),
    (create("a.1.2", origin="a", parent="a.1"), False, True),
    (create("ab", origin="a"), True, True),
    (create("b.1", parent="a"), True, True),
    (create("a", prefix="x.y"), True, False),
    (create("a", prefix="x:y"), False, True),
    (r.TaskCreate("p", 9, create("a.1", target="t", origin="a")), False, True),
    (r.TaskFence("a", 1, create("a.1", origin="a")), False, True),
    (r.TaskFence("a", 1, create("b")), False, False),
    (r.TaskFence("a", 1, create("b:1")), False, True),
    (r.TaskFence("a", 1, r.PromiseSettle("b:1", SETTLE)), False, True),
    (r.PromiseRegisterCallback("a.1", "a"), False, True),
    (r.PromiseRegisterCallback("a:1", "a"), True, False),
    (r.PromiseRegisterCallback("b", "a"), True, True),
    (suspend("a", "a.1", "a.2"), False, True),
    (suspend("a", "a:1", "b"), True, True),
    (beat("a", "a.1"), False, True),
    (beat("a", "b"), True, True),
    (beat("a"), False, False),
    (beat(), True, True),
    (r.ScheduleCreate("s", "* * * * *", "x", 1), False, False),
    (r.ScheduleCreate("s.1", "* * * * *", "x", 1), True, False),
    (r.ScheduleCreate("s:1", "* * * * *", "x", 1), False, True),
    (
        r.ScheduleCreate("s", "* * * * *", "x", 1, promise_tags={"resonate:prefix": "a.b"}),
        True,
        False,
    ),
    (r.PromiseGet("a:1.2"), False, False),
]


@pytest.mark.parametrize(("request_", "dot", "colon"), CASES, ids=repr)
def test_dialects(request_: r.Request, dot: bool, colon: bool) -> None:
    assert refusal(request_, Rules()) is None, "the default takes both dialects at once"
    for rules, refused in ((DOT, dot), (COLON, colon)):
        answer = refusal(request_, rules)
        assert (answer is not None) == refused, rules.ids
        assert answer is None or answer.status == 400


def test_the_specifications_rules() -> None:
    timer = create("a", timer="true", target="t")
    assert refusal(timer, Rules()) is None
    for request in (timer, r.TaskCreate("p", 9, timer), r.TaskFence("b", 1, timer)):
        refused = refusal(request, SPECIFICATION)
        assert refused is not None
        assert refused.status == 400
    for search in (r.PromiseSearch(), r.TaskSearch(), r.ScheduleSearch()):
        assert refusal(search, Rules()) is None
        unserved = refusal(search, SPECIFICATION)
        assert unserved is not None
        assert unserved.status == 501
    assert refusal(create("c0.a1", origin="c0"), SPECIFICATION) is None, "what its loadgen sends"


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("http://h/x", False),
        ("https://h", False),
        ("poll://uni@g/1", False),
        ("poll://g", True),
        ("http://", True),
        ("nats://x", True),
        ("http://[", True),
    ],
)
def test_the_specifications_addresses(address: str, refused: bool) -> None:
    listen = r.PromiseRegisterListener("a", address)
    assert (refusal(listen, SPECIFICATION) is not None) == refused
    assert refusal(listen, Rules()) is None


@pytest.mark.parametrize(
    ("rules", "status"), [(Rules(), 200), (SPECIFICATION, 422)], ids=["default", "spec"]
)
async def test_whether_a_global_scope_lets_others_wait(rules: Rules, status: int) -> None:
    """Official clients of the dot dialect mark what they wait for in no other way."""
    async with serving(rules=rules) as (_, wire):
        for request in (
            create("inner", scope="global"),
            create("outer", external="true"),
            create("t", target="w1"),
            r.TaskCreate("p", 60_000, create("u", target="w1")),
        ):
            assert (await wire.ask(request)).status == 200
        waits: list[Any] = [
            r.PromiseRegisterListener("inner", "poll://uni@g/1"),
            r.PromiseRegisterCallback("inner", "t"),
            suspend("u", "outer", "inner"),
        ]
        for wait in waits:
            assert (await wire.ask(wait)).status == status, wait
        if status != 200:
            assert (await wire.ask(suspend("u", "outer"))).status == 200
