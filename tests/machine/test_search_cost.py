"""Law 15: a search looks at what it shows, not at everything there is, page after page."""

from __future__ import annotations

import pytest

from resonate_aio.machine import search
from resonate_aio.machine.machine import PromiseMachine
from resonate_aio.protocol.records import Promise, PromiseState
from resonate_aio.protocol.requests import PromiseCreate, PromiseSearch, PromiseSettle

COUNT = 3_000


def test_all_pages_together_look_at_each_promise_about_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = 0
    has_tags = search.has_tags

    def counted(tags: dict[str, str], wanted: dict[str, str]) -> bool:
        nonlocal looked
        looked += 1
        return has_tags(tags, wanted)

    monkeypatch.setattr(search, "has_tags", counted)
    machine = machine_of(COUNT)

    found = pages_of(machine)

    assert [promise.id for promise in found] == sorted(f"p{n}" for n in range(COUNT))
    assert looked <= COUNT + COUNT // 100 + 1


def test_a_page_shows_what_came_and_not_what_was_forgotten_meanwhile() -> None:
    machine = machine_of(10)
    first = machine.handle(PromiseSearch(limit=3), 1)
    assert [promise.id for promise in first.promises] == ["p0", "p1", "p2"]

    machine.handle(PromiseSettle("p7", PromiseState.RESOLVED), 1)
    machine.forget("p7")
    machine.handle(PromiseCreate("p55", 10_000), 1)
    rest = machine.handle(PromiseSearch(limit=100, cursor=first.cursor), 1)

    assert [promise.id for promise in rest.promises] == ["p3", "p4", "p5", "p55", "p6", "p8", "p9"]


def machine_of(count: int) -> PromiseMachine:
    machine = PromiseMachine()
    for n in range(count):
        assert machine.handle(PromiseCreate(f"p{n}", 10_000), 0).status == 200
    return machine


def pages_of(machine: PromiseMachine) -> list[Promise]:
    found: list[Promise] = []
    cursor = None
    while True:
        page = machine.handle(PromiseSearch(limit=100, cursor=cursor), 1)
        found += page.promises
        cursor = page.cursor
        if cursor is None:
            return found
