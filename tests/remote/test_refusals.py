"""What becomes of lost answers (S60), and of requests that a server refuses (S24, S62, S63)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.remote.rules import LENIENT, NEWEST, SimRules
from tests.remote.world import EXTERNAL, TIMER, World, fault_once
from tests.stores.drive import create, fence_create, fence_settle, fulfill, ok

from resonate_aio import Context
from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.dialects import PARKED, Dialect
from resonate_aio.protocol.records import Promise, PromiseState, TaskState
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseRegisterCallback,
    PromiseSettle,
    Reply,
    TaskAcquire,
    TaskCreate,
    TaskRelease,
    TaskSuspend,
)
from resonate_aio.stores.remote import RemoteStore

# -- lost answers (S60)


KINDS = [
    "task.create",
    "task.fence promise.create",
    "task.fence promise.settle",
    "task.fulfill",
    "task.acquire",
    "promise.create",
    "promise.register_listener",
    "promise.get",
]


@pytest.mark.parametrize("fault", ["lose", "twice", "refuse", "502", "429"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_answer_is_no_lost_lease(kind: str, fault: str) -> None:
    world = World()
    client = world.client()
    started: Counter[str] = Counter()

    async def leaf(ctx: Context) -> int:
        started[ctx.id] += 1
        return 1

    @client.register
    async def there(ctx: Context) -> int:
        started[ctx.id] += 1
        return 1

    @client.register
    async def flow(ctx: Context) -> int:
        started[ctx.id] += 1
        await ctx.sleep(1)
        return int(await ctx.run(leaf)) + int(await ctx.rpc("there"))

    async def main() -> tuple[Any, Any]:
        async with client:
            world.net.fault = fault_once((kind, fault))
            return await client.run("x", flow), await client.rpc("y", "there")

    assert world.run(main) == (2, 1)
    assert started == {"x": 1, "x.2": 1, "x.3": 1, "y": 1}, "each function ran once"
    assert world.loop.time() < 9, "nobody waited for a lease to lapse"


def test_a_claim_somebody_else_made_is_not_taken_for_ours() -> None:
    world = World()
    world.net.fault = fault_once(("task.create", "refuse"))

    async def claim(store: RemoteStore) -> list[int]:
        machine, now_ms = world.server.machine, world.clock.now_ms()
        action = create("x", timeout_at_ms=world.far_ms())
        assert machine.handle(TaskCreate("p~other", 60_000, action), now_ms).status == 200
        mine = await store.call(TaskCreate("p", 1000, action))
        second = await store.call(TaskAcquire("x", 1, "p", 1000))
        return [mine.status, second.status]

    assert world.with_store(claim) == [409, 409]


def test_a_task_that_is_held_already_is_not_claimed_twice() -> None:
    world = World()

    async def claim(store: RemoteStore) -> list[int]:
        await world.held(store, "x")
        again = await store.call(TaskCreate("p", 1000, create("x", timeout_at_ms=world.far_ms())))
        return [again.status]

    assert world.with_store(claim) == [409]


@pytest.mark.parametrize("request_kind", ["task.release", "task.suspend"])
@pytest.mark.parametrize("fault", ["lose", "twice"])
def test_giving_back_twice_is_giving_back(request_kind: str, fault: str) -> None:
    world = World()
    world.net.fault = fault_once((request_kind, fault))

    async def give_back(store: RemoteStore) -> Any:
        version = await world.held(store, "x")
        await ok(store, PromiseCreate("b", world.far_ms(), tags=EXTERNAL))
        if request_kind == "task.release":
            return await store.call(TaskRelease("x", version))
        awaits = (PromiseRegisterCallback("b", "x"),)
        return await store.call(TaskSuspend("x", version, awaits))

    reply = world.with_store(give_back)
    if (request_kind, fault) != ("task.release", "twice"):  # nobody can tell, and nobody cares
        assert reply.status == 200
    assert world.task("x").state in {TaskState.PENDING, TaskState.SUSPENDED}


def test_a_refused_fulfil_reads_what_the_promise_became() -> None:
    world = World()

    async def end(store: RemoteStore) -> Any:
        version = await world.held(store, "x")
        await ok(store, PromiseCreate("other", world.far_ms()))
        machine = world.server.machine
        settle = PromiseSettle("x", PromiseState.CANCELED)
        assert machine.handle(settle, world.clock.now_ms()).status == 200
        return await fulfill(store, "x", version, "1")

    ended = world.with_store(end)
    assert isinstance(ended, Promise)
    assert ended.state is PromiseState.CANCELED


# -- refusals that are a step's own (S24), and those of dialect and origin


def refuses_large(request: Any) -> Reply | None:
    """A server that stores no value of more than 1,000 characters."""
    action = getattr(request, "action", request)
    for value in (getattr(action, "value", None), getattr(action, "param", None)):
        if value is not None and value.data is not None and len(value.data) > 1000:
            return Reply(413, error="the value is too large")
    return None


def test_what_a_server_will_never_store_is_that_steps_failure() -> None:
    world = World()
    world.server.refuse = refuses_large
    client = world.client()

    async def large(ctx: Context, text: str = "") -> str:
        return "x" * 2000

    @client.register
    async def flow(ctx: Context) -> list[str]:
        seen = []
        for text in ("", "y" * 2000):
            try:
                await ctx.run(large, text)
            except ResonateStoreError as error:
                seen.append(str(error))
        return seen

    @client.register
    async def too_large(ctx: Context) -> str:
        return "y" * 2000

    async def main() -> tuple[list[str], Any]:
        async with client:
            seen = await client.run("x", flow)
            try:
                await client.run("y", too_large)
            except ResonateStoreError as error:
                return seen, error.code
        return seen, None

    seen, code = world.run(main)
    assert ["refused to record" in text for text in seen] == [True, False]
    assert "refused to create" in seen[1]
    assert code == 413
    assert {world.promise(id).state for id in ("x.1", "x.2", "y")} == {PromiseState.REJECTED}


def test_ids_of_another_origin_are_written_unfenced_where_they_must_be() -> None:
    """S62: first write wins, the stored record is adopted."""
    world = World(SimRules(origins=Dialect.COLON))
    foreign = "other:1"

    async def write(store: RemoteStore) -> Any:
        version = await world.held(store, "root")
        made = await fence_create(store, "root", version, world.child(foreign))
        ended = await fence_settle(store, "root", version, foreign, "3")
        second = await fence_create(store, "root", version, world.child("third:1"))
        return made, ended, second

    made, ended, second = world.with_store(write, dialect=Dialect.COLON)
    assert (made.id, ended.value.data, second.id) == (foreign, "3", "third:1")
    # After the first refusal nobody tries to fence such an id again.
    assert world.kinds()["task.fence"] == 1


def test_timers_and_promises_carry_a_target_where_only_those_are_swept() -> None:
    """S63: on other servers a task that nobody will run is not made."""
    for rules, target in ((NEWEST, PARKED), (LENIENT, None)):
        world = World(rules)

        async def make(store: RemoteStore, world: World = world) -> None:
            version = await world.held(store, "root")
            for n, tags in enumerate((TIMER, EXTERNAL, {})):
                await fence_create(store, "root", version, world.child(f"root.{n}", tags=tags))

        world.with_store(make)
        targets = [world.promise(f"root.{n}").tags.get("resonate:target") for n in range(3)]
        assert targets == [target, target, None]


def test_a_target_that_a_timer_may_not_carry_is_left_out() -> None:
    world = World(SimRules(origins=Dialect.DOT, timer_target=False))

    async def make(store: RemoteStore) -> None:
        version = await world.held(store, "root")
        for n in (1, 2):
            await fence_create(store, "root", version, world.child(f"root.{n}", tags=TIMER))

    world.with_store(make)
    assert "resonate:target" not in world.promise("root.1").tags
    assert world.kinds()["task.fence"] == 3, "it is tried once"
