"""A worker process for tests: `python -m tests.remote.worker URL GROUP LOG TTL`.

It writes a line into the log, which all workers share, for each step that it starts. SIGTERM
stops it in order, as an application would.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from resonate_aio import Context, Resonate


def register(resonate: Resonate, name: str, log: str) -> None:
    """The functions every worker knows."""

    def note(what: str) -> None:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{name} {what}\n".encode())
        os.close(descriptor)

    async def step(ctx: Context, key: str, seconds: float) -> str:
        note(f"{ctx.id} {key}")
        await asyncio.sleep(seconds)
        return key

    def blocking(ctx: Context, key: str, seconds: float) -> str:
        note(f"{ctx.id} {key}")
        time.sleep(seconds)
        return key

    @resonate.register
    async def steps(ctx: Context, count: int, seconds: float) -> list[str]:
        return [await ctx.run(step, f"s{n}", seconds) for n in range(count)]

    @resonate.register
    async def one_thread(ctx: Context, seconds: float) -> str:
        return str(await ctx.run(blocking, "thread", seconds))

    @resonate.register
    async def nap(ctx: Context, seconds: float) -> str:
        await ctx.run(step, "before", 0.0)
        await ctx.sleep(seconds)
        return await ctx.run(step, "after", 0.0)

    @resonate.register
    async def asks(ctx: Context, target: str, n: int) -> int:
        values = [len(await ctx.run(step, f"s{k}", 0.0)) for k in range(5)]
        other = await ctx.rpc("doubled", n).options(target=target)
        await ctx.sleep(0.2)
        return int(other) + len(values)

    @resonate.register
    async def doubled(ctx: Context, n: int) -> int:
        await ctx.run(step, "double", 0.0)
        return 2 * n

    @resonate.register
    async def waits(ctx: Context) -> str:
        await ctx.run(step, "asked", 0.0)
        promise = await ctx.promise(timeout=60)
        answer = await promise
        return str(answer)


async def main(url: str, group: str, log: str, ttl: float) -> None:
    """Work until SIGTERM."""
    pid = f"{group}-{os.getpid()}"
    resonate = Resonate(url=url, group=group, pid=pid, ttl=ttl, stop_timeout=3)
    register(resonate, str(os.getpid()), log)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with resonate:
        print("ready", flush=True)  # noqa: T201  whoever started it waits for this
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
