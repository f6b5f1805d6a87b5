"""Which subscriber gets a message (current-protocol §9.2)."""

from __future__ import annotations

import asyncio

import pytest
from tests.stores.drive import Inbox, acquire, create, held, now_ms, ok, passes, settle

from resonate_aio.protocol.records import Promise
from resonate_aio.protocol.requests import (
    Execute,
    Message,
    PromiseRegisterListener,
    TaskRelease,
)
from resonate_aio.stores.hub import parse_address
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore

AnyStore = MemoryStore | SqliteStore


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("poll://uni@g/p", (True, "g", "p")),
        ("poll://any@g", (False, "g", "")),
        ("poll://any@g/p", (False, "g", "p")),
        ("poll://g", (False, "g", "")),
        ("poll://g/p", (False, "g", "p")),
        ("default", (False, "default", "")),
        ("poll://uni@g", (True, "g", "")),
        ("http://localhost/x", None),
        ("poll://other@g", None),
        ("poll://any@", None),
        ("", None),
    ],
)
def test_addresses(address: str, parts: tuple[bool, str, str] | None) -> None:
    assert parse_address(address) == parts


async def test_unicast_goes_to_one_pid_or_nowhere(store: AnyStore) -> None:
    one, two = Inbox(), Inbox()
    store.subscribe("g", "1", one)
    store.subscribe("g", "2", two)
    await ok(store, create("a", target="poll://uni@g/2"))
    await ok(store, create("b", target="poll://uni@g/3"))
    await ok(store, create("c", target="poll://uni@g"))
    await ok(store, create("d", target="poll://uni@other/2"))
    assert await two.until(1) == [Execute("a", 0)]
    await passes(10)
    assert (one.seen, len(two.seen)) == ([], 1)


async def test_anycast_goes_round_the_group(store: AnyStore) -> None:
    boxes = [Inbox() for _ in range(3)]
    for n, box in enumerate(boxes):
        store.subscribe("g", str(n), box)
    for n in range(9):
        await ok(store, create(f"a{n}", target="poll://any@g"))
    for box in boxes:
        assert len(await box.until(3)) == 3
    assert {m.id for box in boxes for m in box.seen} == {f"a{n}" for n in range(9)}


async def test_anycast_with_a_pid_prefers_it(store: AnyStore) -> None:
    one, two = Inbox(), Inbox()
    store.subscribe("g", "1", one)
    leave = store.subscribe("g", "2", two)
    for n in range(3):
        await ok(store, create(f"a{n}", target="poll://any@g/2"))
    assert len(await two.until(3)) == 3
    leave()
    leave()
    await ok(store, create("b", target="poll://any@g/2"))
    assert await one.until(1) == [Execute("b", 0)]


async def test_a_subscriber_gets_what_waited_for_it(store: AnyStore) -> None:
    await ok(store, create("a"))
    await ok(store, create("b", target="poll://uni@default/other"))
    await ok(store, create("c", tags={"resonate:delay": str(now_ms() + 60_000)}))
    await passes(5)
    inbox = Inbox()
    store.subscribe("default", "p", inbox)
    assert await inbox.until(1) == [Execute("a", 0)]
    await passes(10)
    assert len(inbox.seen) == 1


async def test_an_execute_that_no_longer_holds_is_not_delivered(store: AnyStore) -> None:
    seen: list[tuple[str, int, str]] = []

    def note(message: Message) -> None:
        assert isinstance(message, Execute)
        seen.append((message.id, message.version, "given"))

    store.subscribe("default", "p", note)
    both = await asyncio.gather(store.call(create("a")), store.call(acquire("a", 0)))
    assert [reply.status for reply in both] == [200, 200]
    await passes(10)
    assert not seen
    await ok(store, TaskRelease("a", 1))
    await passes(10)
    assert seen == [("a", 1, "given")]


async def test_one_subscribers_fault_does_not_stop_the_others(
    store: AnyStore, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(message: Message) -> None:
        raise ValueError("broken subscriber")

    def broken_holder(promise: Promise) -> None:
        raise ValueError("broken holder")

    inbox = Inbox()
    taken: asyncio.Queue[Promise] = asyncio.Queue()
    store.subscribe("bad", "p", broken, broken_holder)
    store.subscribe("good", "p", inbox, taken.put_nowait)
    await ok(store, create("a", target="poll://any@bad"))
    await ok(store, create("b", target="poll://any@good"))
    await inbox.until(1)
    await held(store, "c")  # whoever holds a root hears that others settled it
    await ok(store, settle("c"))
    assert (await taken.get()).id == "c"
    assert "broken subscriber" in caplog.text
    assert "broken holder" in caplog.text


async def test_every_listener_gets_the_settled_record(store: AnyStore) -> None:
    one, two = Inbox(), Inbox()
    store.subscribe("g", "1", one)
    store.subscribe("g", "2", two)
    await held(store, "a")
    for pid in "12":
        await ok(store, PromiseRegisterListener("a", f"poll://uni@g/{pid}"))
    record = (await ok(store, settle("a"))).promise
    for box in (one, two):
        assert all(message.promise == record for message in await box.until(1))


async def test_deliveries_come_from_the_loop_in_order(store: AnyStore) -> None:
    inbox = Inbox()
    store.subscribe("default", "p", inbox)
    await asyncio.gather(*(store.call(create(f"a{n:03}")) for n in range(300)))
    seen = await inbox.until(300)
    assert [message.id for message in seen] == [f"a{n:03}" for n in range(300)]
