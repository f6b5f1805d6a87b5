"""The store of a current server: what goes over the wire, and what becomes of lost answers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

import pytest
from tests.remote.sim import LENIENT, NEWEST, SimNet, SimRules, SimServer, remote_store
from tests.stores.drive import Inbox, create, fence_create, fence_settle, fulfill, ok

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError
from resonate_aio.protocol.dialects import PARKED, Dialect, origin_of
from resonate_aio.protocol.records import Promise, PromiseState, TaskState, Value
from resonate_aio.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseSettle,
    Reply,
    TaskAcquire,
    TaskCreate,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSuspend,
)
from resonate_aio.server.server import Server
from resonate_aio.stores.base import LOST
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.remote import RemoteStore
from resonate_aio.testing import SimClock, SimLoop

T = TypeVar("T")
EXTERNAL = {"resonate:external": "true", "resonate:scope": "global"}
TIMER = {"resonate:timer": "true", "resonate:scope": "global"}


class World:
    """A server, a network and a virtual-time loop."""

    def __init__(self, rules: SimRules = LENIENT) -> None:
        self.loop = SimLoop()
        self.clock = SimClock(self.loop)
        self.server = SimServer(rules)
        self.server.attach(self.loop, self.clock)
        self.net = SimNet(self.server, Random(5))

    def store(self, **options: Any) -> RemoteStore:
        return remote_store(self.net, **options)

    def client(self, group: str = "default", **options: Any) -> Resonate:
        store = self.store(**options)
        return Resonate(store=store, group=group, pid=f"{group}1", clock=self.clock)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        result = self.loop.run_until_complete(work())
        left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        assert not left, left
        assert not self.loop.exceptions, self.loop.exceptions
        self.server.pause()
        self.loop.close()
        return result

    def with_store(self, work: Callable[[RemoteStore], Awaitable[T]], **options: Any) -> T:
        async def main() -> T:
            store = self.store(**options)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return self.run(main)

    def kinds(self) -> Counter[str]:
        return Counter(kind for kind, _ in self.server.requests)

    def task(self, id: str) -> Any:
        return self.server.machine.tasks[id]

    def promise(self, id: str) -> Promise:
        return self.server.machine.promises[id]

    def far_ms(self) -> int:
        return self.clock.now_ms() + 3_600_000

    def child(self, id: str, **more: Any) -> Promise:
        return Promise(id, PromiseState.PENDING, self.far_ms(), self.clock.now_ms(), **more)

    async def held(self, store: RemoteStore, id: str) -> int:
        action = create(id, timeout_at_ms=self.far_ms())
        task = (await ok(store, TaskCreate("p", 2**52, action))).task
        assert task is not None
        return task.version


def fault_once(*faults: tuple[str, str]) -> Callable[[str, Any], str]:
    """The first request of each of these kinds meets its fault."""
    left = dict(faults)

    def fault(kind: str, data: Any) -> str:
        inner = data.get("action", {}).get("kind", "") if kind == "task.fence" else ""
        return left.pop(f"{kind} {inner}".strip(), "")

    return fault


# -- what it costs


def test_two_requests_for_a_step_and_four_for_an_rpc() -> None:
    world = World()
    ours, other = world.client("ours"), world.client("other")

    async def step(ctx: Context) -> int:
        return 1

    @ours.register
    async def flow(ctx: Context, steps: int, rpcs: int) -> int:
        for _ in range(steps):
            await ctx.run(step)
        for _ in range(rpcs):
            await ctx.rpc("there").options(target="other")
        return 1

    @other.register
    async def there(ctx: Context) -> int:
        return 1

    async def main() -> list[int]:
        counts = []
        async with ours, other:
            await asyncio.sleep(1)  # each client asks the server once what it allows
            for n, (steps, rpcs) in enumerate([(0, 0), (10, 0), (0, 10)]):
                before = len(world.server.requests)
                await ours.run(f"x{n}", flow, steps, rpcs)
                counts.append(len(world.server.requests) - before)
        return counts

    bare, steps, rpcs = world.run(main)
    assert bare == 2
    assert steps - bare == 2 * 10
    assert rpcs - bare == 4 * 10
    assert "task.heartbeat" not in world.kinds()


def test_a_short_sleep_needs_no_listener_and_is_not_early() -> None:
    world = World()
    client = world.client()

    @client.register
    async def flow(ctx: Context) -> None:
        await ctx.sleep(2)

    async def main() -> float:
        async with client:
            await client.run("x", flow)
            return world.loop.time()

    assert 2.0 <= world.run(main) < 2.3, "it does not wait for the server's sweep"
    assert world.kinds()["promise.register_listener"] == 0
    assert world.kinds()["promise.get"] == 1


@pytest.mark.parametrize("skew_ms", [-5000, -20, 0, 20, 1500])
def test_the_servers_clock_judges_deadlines(skew_ms: int) -> None:
    """S63: our timer only makes us ask; nothing is cancelled because our clock is ahead."""
    world = World()
    world.server.skew_ms = skew_ms
    client = world.client()

    async def hang(ctx: Context) -> None:
        await asyncio.sleep(3600)

    @client.register
    async def flow(ctx: Context) -> list[str]:
        seen = []
        for call in (ctx.run(hang).options(timeout=3), ctx.rpc("nobody").options(timeout=3)):
            try:
                await call
            except Exception as error:  # noqa: BLE001  its name is what the test is about
                seen.append(type(error).__name__)
        await ctx.sleep(3)
        try:
            async with ctx.timeout(3):
                await ctx.run(hang)
        except TimeoutError:
            seen.append("time limit")
        return seen

    async def main() -> Any:
        async with client:
            return await client.run("x", flow)

    expected = ["ResonateTimedoutError", "ResonateTimedoutError", "time limit"]
    assert world.run(main) == expected
    timers = [world.promise(f"x.{n}") for n in (1, 2, 3, 4)]
    assert [promise.state for promise in timers] == [
        *(PromiseState.TIMEDOUT, PromiseState.TIMEDOUT),
        *(PromiseState.RESOLVED, PromiseState.RESOLVED),
    ]
    late_s = max(-skew_ms, 0) / 1000 * 4
    assert world.loop.time() < 12 + late_s + 8


# -- what goes over the wire (S61, S62)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_lineage_of_every_kind_of_call(dialect: Dialect) -> None:
    world = World(SimRules(origins=dialect))
    client = world.client(dialect=dialect)

    async def leaf(ctx: Context) -> int:
        return 1

    async def inner(ctx: Context) -> int:
        return int(await ctx.run(leaf))

    @client.register
    async def there(ctx: Context) -> int:
        return int(await ctx.run(leaf))

    @client.register
    async def flow(ctx: Context) -> int:
        await ctx.run(inner)
        await ctx.rpc("there")
        await ctx.sleep(1)
        await ctx.run(leaf).options(id="other-root")
        await ctx.detached("there")
        return 1

    async def main() -> None:
        async with client:
            await client.run("root", flow)
            await asyncio.sleep(5)

    world.run(main)
    joint = "." if dialect is Dialect.DOT else ":"
    lineage = {
        id: tuple(promise.tags.get(f"resonate:{name}") for name in ("origin", "branch", "parent"))
        for id, promise in world.server.machine.promises.items()
    }
    root = f"root{joint}"
    assert lineage == {
        "root": ("root", "root", "root"),
        f"{root}1": ("root", "root", "root"),
        f"{root}1.1": ("root", "root", f"{root}1"),
        f"{root}2": ("root", f"{root}2", "root"),
        f"{root}2.1": ("root", f"{root}2", f"{root}2"),
        f"{root}3": ("root", "root", "root"),
        f"{root}4": ("root", "root", "root"),
        "other-root": (None, None, None),
        f"{root}5": ("root", f"{root}5", "root"),
        f"{root}5.1": ("root", f"{root}5", f"{root}5"),
    }
    assert world.promise("root").tags["resonate-aio:ids"] == dialect
    states = {promise.state for promise in world.server.machine.promises.values()}
    assert states == {PromiseState.RESOLVED}


def test_a_root_that_does_not_tell_its_dialect_is_asked_for_its_children() -> None:
    """S61: a default that changed must not hide what an execution recorded."""
    world = World()
    for id, joint in (("colon", ":"), ("dot", ".")):
        tags = {"resonate:target": "poll://any@default"}
        param = Value(data='{"func":"flow","args":[],"kwargs":{},"version":1}')
        for request in (
            TaskCreate("gone", 60_000, PromiseCreate(id, world.far_ms(), param, tags)),
            PromiseCreate(f"{id}{joint}1", world.far_ms()),
            TaskRelease(id, 1),
        ):
            assert world.server.machine.handle(request, world.clock.now_ms()).status == 200

    async def take(store: RemoteStore) -> list[str | None]:
        starts = []
        for id in ("colon", "dot"):
            await ok(store, TaskAcquire(id, 1, "p", 1000))
            starts.append(store._fences.start_of(id))
        return starts

    assert world.with_store(take, dialect=Dialect.DOT) == ["colon:", "dot."]


def test_groups_go_out_in_lower_case_for_servers_read_addresses_as_urls() -> None:
    world = World()
    client = world.client("Upper")

    @client.register
    async def flow(ctx: Context) -> int:
        return 7

    async def main() -> Any:
        async with client:
            return await client.options(target="UPPER").rpc("x", "flow")

    assert world.run(main) == 7
    assert world.promise("x").tags["resonate:target"] == "poll://any@upper"


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


# -- leases and heartbeats


def beats(world: World) -> list[list[str]]:
    return [
        [task["id"] for task in data["tasks"]]
        for kind, data in world.server.requests
        if kind == "task.heartbeat"
    ]


def test_heartbeats_keep_leases_one_origin_at_a_time_and_are_never_empty() -> None:
    world = World(NEWEST)
    ids = ["a", "b", "c.1", "c.2"]

    async def hold(store: RemoteStore) -> list[int]:
        for id in ids:
            await world.held(store, id)
        await asyncio.sleep(60)
        versions = [world.task(id).version for id in ids]
        await store.call(TaskHeartbeat("p", ()))
        return versions

    assert world.with_store(hold) == [1, 1, 1, 1]
    sent = beats(world)
    assert sent
    assert all(len({origin_of(id, Dialect.DOT) for id in group}) == 1 for group in sent)
    assert all(sent)
    assert ["c.1", "c.2"] in sent


def test_one_heartbeat_for_all_where_the_server_takes_it() -> None:
    world = World(LENIENT)

    async def hold(store: RemoteStore) -> None:
        for n in range(50):
            await world.held(store, f"x{n}")
        await asyncio.sleep(60)

    world.with_store(hold)
    assert max(map(len, beats(world))) == 50
    assert len(beats(world)) <= 60 / (10 / 3) * 1.5
    assert {world.task(f"x{n}").version for n in range(50)} == {1}


def test_origins_that_the_server_reads_otherwise_are_sent_one_by_one() -> None:
    world = World(SimRules(origins=Dialect.COLON))

    async def beat(store: RemoteStore) -> int:
        refs = tuple(TaskRef(f"my.{n}", 1) for n in range(3))
        return (await store.call(TaskHeartbeat("p", refs))).status

    assert world.with_store(beat, dialect=Dialect.DOT) == 200
    assert beats(world)[-3:] == [["my.0"], ["my.1"], ["my.2"]]


def test_a_lost_heartbeat_is_followed_by_the_next() -> None:
    world = World()
    fails = iter([True] * 2)

    async def hold(store: RemoteStore) -> Any:
        version = await world.held(store, "x")
        world.net.fault = lambda kind, _: (
            "502" if kind == "task.heartbeat" and next(fails, False) else ""
        )
        await asyncio.sleep(30)
        return await fulfill(store, "x", version)

    assert isinstance(world.with_store(hold), Promise)
    assert world.task("x").version == 1


def test_a_lease_that_ended_is_noticed_within_a_ttl_and_a_bit() -> None:
    """S13, S60: a heartbeat says nothing; the task is read again."""
    world = World()
    lost: list[tuple[str, int]] = []

    async def hold(store: RemoteStore) -> Any:
        store.subscribe("g", "p", Inbox(), None, lambda id, version: lost.append((id, version)))
        version = await world.held(store, "x")
        await asyncio.sleep(20)
        machine = world.server.machine
        assert machine.handle(TaskRelease("x", version), world.clock.now_ms()).status == 200
        began_s = world.loop.time()
        while not lost:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.1)
        assert world.loop.time() - began_s < 15
        return await fence_create(store, "x", version, world.child("x.1"))

    assert world.with_store(hold) is LOST
    assert lost == [("x", 1)]


def test_the_holders_name_is_never_used_twice() -> None:
    world = World()
    store = world.store()

    async def main() -> set[str]:
        names = set()
        for n in range(3):
            await store.open()
            await world.held(store, f"x{n}")
            names.add(world.task(f"x{n}").pid)
            await store.close()
        return names

    names = world.run(main)
    assert len(names) == 3
    assert all(name.startswith("p~") for name in names)


def test_what_is_on_the_way_arrives_before_a_task_is_given_back() -> None:
    world = World()

    async def give_back(store: RemoteStore) -> None:
        version = await world.held(store, "x")
        acked: list[Any] = []
        for n in range(20):
            child = world.child(f"x.{n}")
            store.fence_create("x", version, child, lambda _, got: acked.append(got), n)
        await ok(store, TaskRelease("x", version))
        assert len(acked) == 20

    world.with_store(give_back)
    assert all(f"x.{n}" in world.server.machine.promises for n in range(20))


# -- watches


def test_a_lost_unblock_is_made_up_for() -> None:
    """§6: nothing but the listener's own asking recovers it."""
    world = World()
    told = Inbox()

    async def wait(store: RemoteStore) -> float:
        store.subscribe("g", "p", Inbox())
        await ok(store, PromiseCreate("x", world.far_ms(), tags=EXTERNAL))
        store.watch("x", told)
        await asyncio.sleep(1)
        world.server.streams.clear()  # the message goes nowhere, and nobody notices
        settle_at_server(world, "x")
        began_s = world.loop.time()
        while not told.seen:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.1)
        return world.loop.time() - began_s

    assert world.with_store(wait) < 90
    assert [promise.id for promise in told.seen] == ["x"]


def settle_at_server(world: World, id: str) -> None:
    settle = PromiseSettle(id, PromiseState.RESOLVED, Value(data="1"))
    assert world.server.machine.handle(settle, world.clock.now_ms()).status == 200
    world.server._effects()


def test_after_a_reconnect_every_listener_is_registered_anew() -> None:
    world = World()
    told = Inbox()

    async def wait(store: RemoteStore) -> float:
        store.subscribe("g", "p", Inbox())
        for n in range(5):
            await ok(store, PromiseCreate(f"x{n}", world.far_ms(), tags=EXTERNAL))
            store.watch(f"x{n}", told)
        await asyncio.sleep(1)
        stream = world.server.streams.pop(("g", "p"))
        settle_at_server(world, "x3")
        began_s = world.loop.time()
        stream.cut()
        while not told.seen:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.05)
        return world.loop.time() - began_s

    assert world.with_store(wait) < 1
    assert [promise.id for promise in told.seen] == ["x3"]


def test_a_promise_that_is_not_there_is_an_error_for_who_waits() -> None:
    world = World()
    client = world.client()

    async def main() -> Any:
        async with client:
            await client.promises.create("gone", timeout_in=3600)
            handle = await client.get("gone").created()
            await asyncio.sleep(1)
            world.server.machine.promises.pop("gone")
            with pytest.raises(ResonateStoreError, match="does not exist") as caught:
                await handle
            return caught.value.code

    assert world.run(main) == 404


def test_watches_are_bounded_in_number_under_way() -> None:
    world = World()
    most = now = 0

    async def wait(store: RemoteStore) -> int:
        nonlocal most
        carry = world.net.carry

        async def counted(body: bytes, answer_s: float) -> Any:
            nonlocal now, most
            now += 1
            most = max(most, now)
            try:
                return await carry(body, answer_s)
            finally:
                now -= 1

        world.net.carry = counted  # type: ignore[method-assign]
        store.subscribe("g", "p", Inbox())
        for n in range(500):
            store.watch(f"x{n}", Inbox())
        await asyncio.sleep(30)
        return most

    assert world.with_store(wait) <= 16


# -- trouble (law 8)


def test_a_server_that_is_away_for_a_minute_changes_nothing() -> None:
    world = World()
    client = world.client(ttl_s=120.0)

    async def leaf(ctx: Context, n: int) -> int:
        await asyncio.sleep(1)
        return n

    @client.register
    async def flow(ctx: Context) -> list[int]:
        return [await ctx.run(leaf, n) for n in range(5)]

    async def main() -> tuple[Any, int]:
        async with client:
            handles = [client.begin_run(f"x{n}", flow) for n in range(20)]
            await asyncio.sleep(2.5)
            world.net.is_down = True
            before = len(world.net.sent)
            await asyncio.sleep(60)
            sent = len(world.net.sent) - before
            world.net.is_down = False
            return [await handle for handle in handles], sent

    results, sent = world.run(main)
    assert results == [[0, 1, 2, 3, 4]] * 20
    assert sent < 60 * 20, "about one try in five seconds for each of what waits"


def test_refused_credentials_are_said_at_once_and_writes_wait_for_better_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    client = world.client(ttl_s=3600.0)

    async def leaf(ctx: Context) -> int:
        await asyncio.sleep(10)
        return 1

    @client.register
    async def flow(ctx: Context) -> int:
        return int(await ctx.run(leaf)) + 1

    async def main() -> tuple[Any, Any, int]:
        async with client:
            handle = client.begin_run("x", flow)
            await asyncio.sleep(5)
            world.net.fault = lambda *_: "401"
            with pytest.raises(ResonateStoreError) as caught:
                await client.promises.get("x")
            before = len(world.net.sent)
            await asyncio.sleep(600)
            sent = len(world.net.sent) - before
            world.net.fault = None
            return caught.value.code, await handle, sent

    with caplog.at_level(logging.ERROR, "resonate_aio.stores"):
        code, result, sent = world.run(main)
    assert (code, result) == (401, 2)
    assert sent < 60
    assert any("what is to be recorded waits" in record.getMessage() for record in caplog.records)


def test_stop_is_bounded_though_the_server_is_gone() -> None:
    world = World()
    client = world.client()

    async def leaf(ctx: Context) -> None:
        await asyncio.sleep(3600)

    @client.register
    async def flow(ctx: Context) -> None:
        await ctx.run(leaf)

    async def main() -> float:
        await client.start()
        client.begin_run("x", flow)
        await asyncio.sleep(5)
        world.net.is_down = True
        began_s = world.loop.time()
        await client.stop()
        return world.loop.time() - began_s

    assert world.run(main) < 30


# -- life


async def test_another_loop_is_refused_until_the_first_is_closed() -> None:
    net = SimNet(SimServer(), Random(1))
    store = remote_store(net)
    await store.open()
    other = asyncio.new_event_loop()

    async def elsewhere() -> None:
        await store.open()

    with pytest.raises(ResonateStoreError, match="another event loop"):
        await asyncio.to_thread(other.run_until_complete, elsewhere())
    other.close()
    await store.close()


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, 0.01, float("nan")])
def test_a_lease_that_cannot_be_kept_is_refused(ttl_s: float) -> None:
    with pytest.raises(ValueError, match="ttl"):
        remote_store(SimNet(SimServer(), Random(1)), ttl_s=ttl_s)


def test_a_loop_that_was_closed_under_the_client_is_left_behind() -> None:
    """asyncio.run ended without stop(): the same client works on the next loop."""
    store = MemoryStore()

    async def first_life(client: Resonate) -> Any:
        await client.start()
        return await client.run("a", _double, 1)

    async def second_life(client: Resonate) -> Any:
        async with client:
            return await client.run("b", _double, 2)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = Resonate(url=f"http://127.0.0.1:{port}")
    client.register(_double)

    async def with_server(life: Any) -> Any:
        server = Server(store, port=port)
        await server.start()
        try:
            return await life(client)
        finally:
            await server.stop()

    assert asyncio.run(with_server(first_life)) == 2
    assert asyncio.run(with_server(second_life)) == 4


async def _double(ctx: Context, n: int) -> int:
    return 2 * n


def test_what_is_asked_of_a_closed_store_says_so() -> None:
    world = World()

    async def main() -> None:
        store = world.store()
        with pytest.raises(ResonateStoreError, match="not open"):
            await store.call(PromiseGet("x"))
        await store.open()
        await store.close()
        with pytest.raises(ResonateStoreError, match="not open"):
            store.watch("x", Inbox())

    world.run(main)
