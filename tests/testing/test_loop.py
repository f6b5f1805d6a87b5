"""SimLoop keeps asyncio's promises on virtual time, and a kill runs nothing (S32)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from resonate_aio.testing.graveyard import GRAVEYARD
from resonate_aio.testing.loop import Killed, SimClock, SimDeadlock, SimLoop, ThreadsStuck


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    made = SimLoop()
    yield made
    if not made.is_dead:
        made.close()


# Order and time


def test_sleep_costs_no_real_time(loop: SimLoop) -> None:
    async def main() -> float:
        began = loop.time()
        await asyncio.sleep(365 * 86_400)
        return loop.time() - began

    real = time.monotonic()
    assert loop.run_until_complete(main()) == 365 * 86_400
    assert time.monotonic() - real < 1


def test_ready_callbacks_run_first_in_first_out_pass_by_pass(loop: SimLoop) -> None:
    seen: list[str] = []

    async def main() -> None:
        def first() -> None:
            seen.append("first")
            loop.call_soon(seen.append, "added during the pass")

        loop.call_soon(first)
        loop.call_soon(seen.append, "second")
        await asyncio.sleep(0)
        seen.append("main")
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert seen == ["first", "second", "main", "added during the pass"]


def test_timers_with_equal_times_run_in_the_order_of_the_calls(loop: SimLoop) -> None:
    seen: list[int] = []

    async def main() -> None:
        for n in range(20):
            loop.call_at(5.0, seen.append, n)
        await asyncio.sleep(6)

    loop.run_until_complete(main())
    assert seen == list(range(20))


def test_the_order_is_that_of_the_standard_loop(loop: SimLoop) -> None:
    async def program() -> list[str]:
        seen: list[str] = []
        running = asyncio.get_running_loop()

        async def helper(name: str, naps: int) -> None:
            for n in range(naps):
                seen.append(f"{name}{n}")
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for n in range(4):
                group.create_task(helper(f"t{n}.", n + 1))
            running.call_soon(seen.append, "soon")
            running.call_later(0, seen.append, "later")
        done = await asyncio.gather(helper("g.", 2), helper("h.", 3), return_exceptions=True)
        return [*seen, repr(done)]

    assert loop.run_until_complete(program()) == asyncio.run(program())


def test_a_cancelled_timer_neither_runs_nor_moves_the_clock(loop: SimLoop) -> None:
    async def main() -> None:
        far = [loop.call_later(1_000, pytest.fail, "ran") for _ in range(500)]
        await asyncio.sleep(1)
        for timer in far:
            timer.cancel()
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    assert loop.time() == 2
    with pytest.raises(SimDeadlock):
        loop.run_until_complete(loop.create_future())
    assert loop.time() == 2


def test_clock_counts_whole_milliseconds_of_virtual_time(loop: SimLoop) -> None:
    clock = SimClock(loop, start_ms=1_000)

    async def main() -> list[int]:
        seen = []
        for _ in range(12):
            await asyncio.sleep(0.1)
            seen.append(clock.now_ms())
        return seen

    assert loop.run_until_complete(main()) == [1_000 + 100 * n for n in range(1, 13)]


def test_a_new_life_goes_on_at_the_old_time() -> None:
    old = SimLoop(start_s=7.5)
    old.run_until_complete(asyncio.sleep(1))
    old.kill()
    assert SimLoop(start_s=old.time()).time() == 8.5


# What asyncio builds on a loop


def test_timeout(loop: SimLoop) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(60)
        async with asyncio.timeout(30):
            await asyncio.sleep(29)

    loop.run_until_complete(main())
    assert loop.time() == 59
    assert loop.exceptions == []


def test_task_group_cancels_the_others_when_one_fails(loop: SimLoop) -> None:
    ended: list[str] = []

    async def patient() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("patient")

    async def failing() -> None:
        await asyncio.sleep(1)
        raise ValueError("no")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(patient())
            group.create_task(failing())

    with pytest.raises(ExceptionGroup):
        loop.run_until_complete(main())
    assert ended == ["patient"]
    assert loop.time() == 1


def test_gather_wait_shield_and_queue(loop: SimLoop) -> None:
    async def after(delay: float) -> float:
        await asyncio.sleep(delay)
        return delay

    async def main() -> None:
        assert list(await asyncio.gather(after(3), after(1), after(2))) == [3, 1, 2]
        tasks = [asyncio.create_task(after(n)) for n in (5, 4)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert done == {tasks[1]}
        assert pending == {tasks[0]}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(tasks[0])
        assert await tasks[0] == 5
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        putter = asyncio.create_task(queue.put(1))
        assert await queue.get() == 1
        await putter

    loop.run_until_complete(main())


def test_context_variables_follow_handles_and_tasks(loop: SimLoop) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
    seen: list[str] = []

    async def child() -> None:
        seen.append(name.get())
        name.set("child")

    async def main() -> None:
        name.set("main")
        loop.call_soon(lambda: seen.append(name.get()))
        loop.call_later(1, lambda: seen.append(name.get()))
        other = contextvars.Context()
        loop.call_soon(lambda: seen.append(name.get()), context=other)
        await asyncio.create_task(child())
        await asyncio.create_task(child(), context=other)
        await asyncio.sleep(2)
        seen.append(name.get())
        assert other[name] == "child"

    loop.run_until_complete(main())
    assert seen == ["main", "none", "main", "none", "main", "main"]
    assert name.get() == "none"


def test_task_factory_is_used(loop: SimLoop) -> None:
    made: list[str] = []

    def factory(
        loop: asyncio.AbstractEventLoop, coro: object, **kwargs: object
    ) -> asyncio.Task[object]:
        made.append(getattr(coro, "__qualname__", "?"))
        return asyncio.Task(coro, loop=loop, **kwargs)  # type: ignore[arg-type]

    async def child() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    async def main() -> None:
        assert await asyncio.create_task(child(), name="named") == "named"

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    loop.run_until_complete(main())
    assert [name.rsplit(".", 1)[1] for name in made] == ["main", "child"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks(loop: SimLoop) -> None:
    async def quick() -> int:
        return 3

    async def main() -> None:
        task = asyncio.create_task(quick())
        assert task.done()
        assert await task == 3

    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009  absent in 3.11
    loop.run_until_complete(main())


def test_what_reaches_the_loop_is_collected(loop: SimLoop) -> None:
    handled: list[str] = []
    loop.set_exception_handler(lambda _, context: handled.append(context["message"]))

    async def fails() -> None:
        raise ValueError("lost")

    async def main() -> None:
        loop.call_soon(lambda: 1 / 0)
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        gc.collect()

    loop.run_until_complete(main())
    assert [type(context["exception"]) for context in loop.exceptions] == [
        ZeroDivisionError,
        ValueError,
    ]
    assert handled == [context["message"] for context in loop.exceptions]


def test_runner_runs_on_it_and_closes_it() -> None:
    closed: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(1)
            closed.append("generator")

    kept: list[AsyncIterator[int]] = []

    async def main() -> int:
        kept.append(numbers())
        return await anext(kept[0])

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        made = runner.get_loop()
        assert runner.run(main()) == 1
    assert closed == ["generator"]
    assert made.is_closed()
    with pytest.raises(RuntimeError, match="closed"):
        made.call_soon(print)


def test_misuse_is_refused(loop: SimLoop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="another loop"):
            SimLoop().run_forever()
        with pytest.raises(RuntimeError, match="running"):
            loop.close()
        with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="another thread"):
            await loop.run_in_executor(pool, loop.call_soon, print)

    loop.run_until_complete(main())
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="before Future completed"):
        loop.run_until_complete(loop.create_future())


# Threads


def test_default_executor_is_one_step_of_the_loop(loop: SimLoop) -> None:
    def no_loop_here() -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return threading.current_thread().name

    def fails() -> None:
        raise KeyError("gone")

    async def main() -> None:
        assert await asyncio.to_thread(no_loop_here) == threading.current_thread().name
        assert asyncio.get_running_loop() is loop
        with pytest.raises(KeyError):
            await loop.run_in_executor(None, fails)

    loop.run_until_complete(main())


def test_clock_waits_for_executor_threads(loop: SimLoop) -> None:
    async def main() -> float:
        with ThreadPoolExecutor(2) as pool:
            async with asyncio.timeout(1):  # virtual: must not expire meanwhile
                await loop.run_in_executor(pool, time.sleep, 0.05)
        return loop.time()

    assert loop.run_until_complete(main()) == 0


def test_anyio_threads_work_and_hold_the_clock(loop: SimLoop) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    def work(n: int) -> str:
        time.sleep(0.02)
        anyio.from_thread.run(asyncio.sleep, 0)
        anyio.from_thread.check_cancelled()
        return f"{name.get()}{n}"

    async def main() -> None:
        name.set("x")
        with anyio.fail_after(1):
            got = await asyncio.gather(
                *(anyio.to_thread.run_sync(partial(work, n)) for n in range(5))
            )
        assert got == [f"x{n}" for n in range(5)]
        limiter = anyio.CapacityLimiter(1)
        with pytest.raises(ZeroDivisionError):
            await anyio.to_thread.run_sync(lambda: 1 // 0, limiter=limiter)
        await asyncio.sleep(100)

    loop.run_until_complete(main())
    assert loop.time() == 100
    assert loop.exceptions == []


def test_clock_waits_for_counted_threads_and_busy_checks(loop: SimLoop) -> None:
    busy = {"checked": True}
    loop.add_busy_check(lambda: busy["checked"])
    seen: list[tuple[str, float]] = []

    def counted() -> None:
        time.sleep(0.03)
        loop.call_soon_threadsafe(lambda: seen.append(("counted", loop.time())))
        loop.thread_finished()

    def checked() -> None:
        time.sleep(0.06)
        loop.call_soon_threadsafe(lambda: seen.append(("checked", loop.time())))
        busy["checked"] = False

    async def main() -> None:
        loop.thread_started()
        threads = [threading.Thread(target=counted), threading.Thread(target=checked)]
        for thread in threads:
            thread.start()
        await asyncio.sleep(10)
        for thread in threads:
            thread.join()

    loop.run_until_complete(main())
    assert seen == [("counted", 0.0), ("checked", 0.0)]


def test_quiet_comes_after_everything_that_is_due_and_before_the_clock_moves(
    loop: SimLoop,
) -> None:
    seen: list[str] = []

    async def chatty() -> None:
        for _ in range(200):
            await asyncio.sleep(0)
        seen.append("chatty")

    async def main() -> None:
        loop.call_later(1, seen.append, "later")
        loop.call_later(0, seen.append, "due")
        talk = asyncio.create_task(chatty())
        work = asyncio.create_task(anyio.to_thread.run_sync(time.sleep, 0.02))
        work.add_done_callback(lambda _: seen.append("thread"))
        await loop.when_quiet()
        assert sorted(seen) == ["chatty", "due", "thread"]
        assert loop.time() == 0
        await asyncio.gather(talk, work)
        abandoned = loop.when_quiet()
        abandoned.cancel()
        await asyncio.sleep(2)
        assert loop.time() == 2

    loop.run_until_complete(main())


def test_a_spinning_program_gets_what_its_thread_hands_over(loop: SimLoop) -> None:
    async def main() -> None:
        arrived = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(arrived.set,))
        thread.start()
        while not arrived.is_set():  # noqa: ASYNC110  spinning is the point
            await asyncio.sleep(0)
        thread.join()

    loop.run_until_complete(main())


def test_stuck_threads_are_reported() -> None:
    loop = SimLoop(threads_limit_s=0.05)
    loop.thread_started()
    with pytest.raises(ThreadsStuck, match=r"0\.05 s"):
        loop.run_until_complete(asyncio.sleep(1))
    loop.kill()


# Deadlock


def test_deadlock_names_the_tasks_and_where_they_wait(loop: SimLoop) -> None:
    async def inner(future: asyncio.Future[None]) -> None:
        await future  # the place

    async def outer(future: asyncio.Future[None]) -> None:
        await inner(future)

    async def main() -> None:
        task = asyncio.create_task(outer(loop.create_future()), name="lonely")
        await task

    with pytest.raises(SimDeadlock) as caught:
        loop.run_until_complete(main())
    line = inner.__code__.co_firstlineno + 1
    [lonely] = [text for text in str(caught.value).splitlines() if text.startswith("  lonely")]
    assert "outer (" in lonely
    assert f"inner ({__file__}:{line})" in lonely
    assert "Future pending" in lonely
    loop.kill()


# Killing


def victim_program(seen: list[str]) -> Callable[[], object]:
    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(1_000)
            yield 2
        finally:
            seen.append("asyncgen finally")

    async def sleeper() -> None:
        try:
            async for _ in generator():
                seen.append("step")  # noqa: PERF401  a step's effect, not a list
        except BaseException:
            seen.append("except")
            raise
        finally:
            seen.append("finally")

    async def failed() -> None:
        raise ValueError("nobody asks")

    async def main() -> None:
        tasks = [asyncio.create_task(sleeper()) for _ in range(3)]
        lost = asyncio.create_task(failed())
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)
        del lost
        seen.append("survived")

    return main


def test_kill_between_steps_runs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for steps in range(12):
        seen: list[str] = []
        loop = SimLoop()
        main = victim_program(seen)
        loop.kill_after(steps)
        with pytest.raises(Killed):
            loop.run_until_complete(main())  # type: ignore[arg-type]
        assert loop.steps == steps
        assert loop.is_dead
        assert asyncio.all_tasks(loop) == set()
        before, at = list(seen), loop.time()
        with pytest.raises(Killed):
            loop.run_until_complete(main())  # type: ignore[arg-type]
        del loop, main
        gc.collect()
        assert seen == before
        assert at >= 10 or set(seen) <= {"step"}
    assert capfd.readouterr() == ("", "")


def test_kill_from_inside_ends_at_the_end_of_the_step() -> None:
    seen: list[str] = []
    loop = SimLoop()

    async def other() -> None:
        seen.append("other ran")

    async def main() -> None:
        loop.call_soon(seen.append, "handle ran")
        loop.kill()
        loop.call_soon(seen.append, "handle ran")
        loop.call_later(0, seen.append, "timer ran")
        loop.call_soon_threadsafe(seen.append, "handle ran")
        keep = asyncio.create_task(other())
        loop.create_future().set_result(None)
        seen.append("rest of the step")
        await keep
        seen.append("after the step")

    with pytest.raises(Killed):
        loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert seen == ["rest of the step"]
    assert not loop.is_closed()


def test_killed_raised_by_a_callback_kills_and_gets_through() -> None:
    loop = SimLoop()

    def crash() -> None:
        raise Killed("disk gone")

    loop.call_later(5, crash)
    with pytest.raises(Killed, match="disk gone"):
        loop.run_until_complete(asyncio.sleep(10))
    assert loop.is_dead
    assert loop.time() == 5


def test_late_threads_of_a_dead_loop_are_ignored() -> None:
    loop = SimLoop()
    release = threading.Event()
    seen: list[str] = []

    def slow() -> None:
        release.wait()
        loop.call_soon_threadsafe(seen.append, "ran")

    async def main() -> None:
        await anyio.to_thread.run_sync(lambda: None)  # leaves an idle worker
        work = asyncio.create_task(anyio.to_thread.run_sync(slow))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.kill()
        await work

    with pytest.raises(Killed):
        loop.run_until_complete(main())
    release.set()
    for thread in threading.enumerate():
        if getattr(thread, "loop", None) is loop:
            thread.join(10)
            assert not thread.is_alive()
    assert seen == []


def test_a_killed_life_leaves_no_task_and_a_new_one_works() -> None:
    buried = len(GRAVEYARD)
    for _ in range(50):
        loop = SimLoop()
        loop.kill_after(9)
        with pytest.raises(Killed):
            loop.run_until_complete(victim_program([])())  # type: ignore[arg-type]
    assert len(GRAVEYARD) > buried
    assert asyncio.run(asyncio.sleep(0, "alive")) == "alive"


def test_the_interpreter_ends_in_silence_with_victims_in_the_graveyard() -> None:
    program = """
        import asyncio, gc, sys
        import anyio.to_thread
        from resonate_aio.testing.loop import Killed, SimLoop

        async def generator():
            try:
                yield 1
                await asyncio.sleep(1000)
            finally:
                print("asyncgen finally ran")

        def steps():
            try:
                yield
            finally:
                print("generator finally ran")

        async def victim():
            body = steps()
            next(body)
            try:
                async for _ in generator():
                    await anyio.to_thread.run_sync(lambda: None)
                await asyncio.sleep(1000)
            finally:
                print("finally ran")

        async def failed():
            raise ValueError

        async def main():
            tasks = [asyncio.ensure_future(victim()) for _ in range(3)]
            lost = asyncio.ensure_future(failed())
            await asyncio.sleep(500)

        class Stray:
            def __init__(self):
                self.body = steps()
                next(self.body)

        ends = set()
        for n in range(40):
            loop = SimLoop()
            loop.kill_after(n)
            stray = Stray()
            loop.keep(stray)
            try:
                loop.run_until_complete(main())
            except Killed:
                ends.add("killed")
            else:
                ends.add("at the end")
                loop.kill()
            del loop, stray
            gc.collect()
        assert ends == {"killed", "at the end"}
        print("end", flush=True)
    """
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")
