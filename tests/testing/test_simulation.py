"""Tests of durable functions on virtual time: `simulate` and `@simulated`."""

from __future__ import annotations

import asyncio
import inspect
import time
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateTimedoutError
from resonate_aio.testing import FaultError, SimDeadlock, crash_everywhere, simulate, simulated

WEEK_S = 7 * 24 * 3600


async def remind(ctx: Context, name: str) -> str:
    await ctx.sleep(WEEK_S)
    return f"reminded {name}"


def shout(ctx: Context, word: str) -> str:
    time.sleep(0.001)  # a plain function runs on a real thread: time waits for it
    return word.upper()


@simulated
async def test_sleeps_take_no_time_and_end_on_time(resonate: Resonate) -> None:
    resonate.register(remind)
    handle = resonate.begin_run("r", remind, "Ada")
    await asyncio.sleep(WEEK_S - 1)
    assert not handle.done()
    await asyncio.sleep(2)
    assert await handle == "reminded Ada"


@simulated
async def test_threads_work_while_time_waits(resonate: Resonate) -> None:
    resonate.register(shout)
    before = asyncio.get_running_loop().time()
    assert await resonate.run("s", shout, "word") == "WORD"
    assert asyncio.get_running_loop().time() == before


class TestInAClass:
    @simulated
    async def test_it_may_be_a_method(self, resonate: Resonate) -> None:
        assert isinstance(self, TestInAClass)
        resonate.register(remind)
        await resonate.run("r", remind, "Ada")


@pytest.mark.parametrize("name", ["Ada", "Grace"])
@simulated
async def test_fixtures_and_parameters_arrive(
    tmp_path: Path, resonate: Resonate, name: str
) -> None:
    resonate.register(remind)
    assert tmp_path.name.startswith("test_fixtures")
    assert await resonate.run("r", remind, name) == f"reminded {name}"


def test_simulate_returns_what_was_returned_in_little_real_time() -> None:
    async def main(resonate: Resonate) -> tuple[str, float]:
        resonate.register(remind)
        return await resonate.run("r", remind, "Ada"), asyncio.get_running_loop().time()

    began = time.monotonic()
    result, passed_s = simulate(main)
    assert (result, passed_s >= WEEK_S) == ("reminded Ada", True)
    assert time.monotonic() - began < 10


def test_each_client_is_new() -> None:
    async def main(resonate: Resonate) -> str:
        resonate.register(remind)
        return await resonate.run("r", remind, "Ada")

    assert simulate(main) == simulate(main)  # the second registers the same name again


def test_waiting_for_what_never_comes_fails_at_once() -> None:
    async def main(resonate: Resonate) -> None:
        await asyncio.Event().wait()

    with pytest.raises(SimDeadlock, match=r"Event\.wait"):
        simulate(main)


def test_what_the_test_raises_is_raised() -> None:
    @simulated
    async def fails(resonate: Resonate) -> None:
        raise ZeroDivisionError("of the test")

    with pytest.raises(ZeroDivisionError, match="of the test"):
        fails()


def test_a_limit_of_virtual_time() -> None:
    async def main(resonate: Resonate) -> None:
        await asyncio.sleep(WEEK_S)

    with pytest.raises(FaultError, match="did not end within 60 virtual seconds"):
        simulate(main, limit_s=60)


def test_a_task_left_behind_is_a_fault() -> None:
    async def main(resonate: Resonate) -> None:
        left = asyncio.create_task(asyncio.sleep(WEEK_S), name="forgotten")
        assert not left.done()

    with pytest.raises(FaultError, match="forgotten"):
        simulate(main)


def test_simulated_refuses_what_it_cannot_run() -> None:
    def plain(resonate: Resonate) -> None: ...

    async def without(other: Resonate) -> None: ...

    for test in (plain, without):
        with pytest.raises(TypeError, match="parameter `resonate`"):
            simulated(test)  # type: ignore[arg-type]


def test_pytest_sees_the_other_parameters_only() -> None:
    assert list(inspect.signature(test_fixtures_and_parameters_arrive).parameters) == [
        "tmp_path",
        "name",
    ]


async def approve(ctx: Context) -> str:
    return str(await (await ctx.promise(id=f"{ctx.id}-gate")))


async def approve_in_time(ctx: Context) -> str:
    return str(await (await ctx.promise(timeout=60)))


def test_a_promise_that_nobody_settles_is_named() -> None:
    """Not after a year of virtual time, and not as a time limit that nobody chose."""

    async def main(resonate: Resonate) -> None:
        resonate.register(approve)
        await resonate.run("r", approve)

    with pytest.raises(SimDeadlock, match=r"promises that nobody settles.*: 'r-gate'\.") as raised:
        simulate(main)
    assert "approve" in str(raised.value), "who waits is named, too"


async def order(ctx: Context) -> str:
    return str(await ctx.rpc("ship"))


@pytest.mark.parametrize("target", ["default", "warehouse"])
def test_a_function_that_nobody_runs_is_named(target: str) -> None:
    async def main(resonate: Resonate) -> None:
        resonate.register(order)
        await asyncio.gather(
            resonate.run("r", order), resonate.options(target=target).rpc("s", "pack")
        )

    with pytest.raises(SimDeadlock, match=r"'r\.1' \(calls 'ship', which nobody runs\)") as raised:
        simulate(main)
    assert "'s' (calls 'pack', which nobody runs)" in str(raised.value)


def test_a_function_that_is_registered_late_is_waited_for() -> None:
    async def main(resonate: Resonate) -> str:
        resonate.register(order)
        handle = resonate.begin_run("r", order)
        await asyncio.sleep(WEEK_S)

        @resonate.register
        async def ship(ctx: Context) -> str:
            return "shipped"

        return await handle

    assert simulate(main) == "shipped"


def test_limits_that_somebody_chose_pass() -> None:
    async def main(resonate: Resonate) -> None:
        resonate.register(approve)
        resonate.register(approve_in_time)
        with pytest.raises(ResonateTimedoutError):
            await resonate.options(timeout=3600).run("r", approve)
        with pytest.raises(ResonateTimedoutError):
            await resonate.run("s", approve_in_time)
        with pytest.raises(TimeoutError):
            await resonate.begin_run("t", approve).result(timeout=60)
        await asyncio.sleep(2 * 365 * 24 * 3600)
        assert resonate.begin_run("t", approve) is not None

    simulate(main)


@simulated
async def test_what_reaches_out_of_the_process_is_refused_with_what_to_do(
    resonate: Resonate,
) -> None:
    """Still a NotImplementedError: that is what libraries catch to go on without."""
    loop = asyncio.get_running_loop()
    for refused in (
        lambda: asyncio.open_connection("127.0.0.1", 1),
        lambda: asyncio.create_subprocess_exec("true"),
        lambda: asyncio.start_server(lambda *_: None, "127.0.0.1", 0),
        lambda: loop.getaddrinfo("localhost", 1),
        lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("::1", 0)),
    ):
        with pytest.raises(NotImplementedError, match=r"no sockets.*resonate\.set_dependency"):
            await refused()
    with pytest.raises(NotImplementedError, match=r"add_signal_handler\(\): .* signals"):
        loop.add_signal_handler(2, print)


async def returns_at_once(resonate: Resonate) -> None: ...


@pytest.mark.parametrize("door", [simulate, crash_everywhere])
@pytest.mark.parametrize(
    ("program", "told"),
    [
        (
            lambda resonate: 1,
            r"async def program.*<lambda>\(resonate\) gave 1, which cannot be awai",
        ),
        (3, r"takes an async function, `async def program\(resonate\): \.\.\.`, got 3"),
    ],
)
def test_a_program_that_is_none_is_refused(door: Any, program: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        door(program)


@pytest.mark.parametrize("door", [simulate, crash_everywhere])
def test_a_program_that_was_called_already_is_refused(door: Any) -> None:
    """And nothing warns of a coroutine that was never awaited (warnings are errors)."""
    said = rf"leave the call out, {door.__name__}\(returns_at_once\)"
    with pytest.raises(TypeError, match=said):
        door(returns_at_once(Resonate()))


@simulated
async def test_what_ended_long_ago_can_be_deleted(resonate: Resonate) -> None:
    resonate.register(remind)
    await resonate.run("r", remind, "Ada")
    assert await resonate.prune(older_than=60) == 0
    await asyncio.sleep(61)
    assert await resonate.prune(older_than=60) == 1
    assert await resonate.run("r", remind, "Grace") == "reminded Grace"


@pytest.mark.parametrize("busy_s", [0.0, 0.005])
def test_the_speed_of_the_machine_has_no_say(busy_s: float) -> None:
    """What comes first, a start or a cancel, is the same however long a step holds the loop."""
    began: list[str] = []

    async def step(ctx: Context) -> None:
        began.append(ctx.id)
        await asyncio.sleep(60)

    async def flow(ctx: Context) -> None:
        task = asyncio.create_task(ctx.run(step))
        await ctx.sleep(1)
        other = asyncio.create_task(ctx.run(step))
        other.cancel()
        time.sleep(busy_s)  # noqa: ASYNC251  it plays a machine that is busy with others
        await asyncio.wait([other])
        await task

    async def main(resonate: Resonate) -> None:
        resonate.register(flow)
        await resonate.run("f", flow)

    simulate(main)
    assert began == ["f.1", "f.3"]
