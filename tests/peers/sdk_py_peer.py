"""Run by the Python of an environment with resonate-sdk 0.7.4 or 0.8.1: a worker, or calls.

    work GROUP URL LOG       say "ready" and work until killed
    call GROUP URL CALLS     call functions of a group one after the other, print what came
    resolve ID URL VALUE     resolve a promise with a value in JSON, print what was settled

`CALLS` is a JSON array of `[id, function, arguments...]`. What came is a line of JSON for each:
`{"value": ...}` or `{"error": text}`.
"""
# mypy: ignore-errors
# ruff: noqa: T201

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from resonate.resonate import Resonate
from resonate.types import Value

TTL = timedelta(seconds=1)


def functions(who: str, log: Path) -> list:  # noqa: C901  many small ones
    """The functions of `shared_functions`, in the words of this SDK."""

    def note(ctx: Any, what: str) -> Any:
        with log.open("a") as file:
            file.write(f"{who} {what}\n")
        return what

    async def hello(ctx: Any, name: str, punctuation: str = ".") -> Any:
        return f"{who} says hello to {name}{punctuation}"

    async def link(ctx: Any, number: int, route: list) -> Any:
        await ctx.run(note, f"link {number}")
        if not route:
            return number
        target = f"poll://any@{route[0]}"
        deeper = await ctx.options(target=target).rpc("link", number + 1, route[1:])
        await ctx.run(note, f"back {number}")
        return deeper + 1

    async def nap(ctx: Any, seconds: float) -> Any:
        await ctx.sleep(timedelta(seconds=seconds))
        await ctx.run(note, "rested")
        return f"{who} is rested"

    async def ask(ctx: Any) -> Any:
        return {"who": who, "heard": await ctx.promise()}

    async def fail(ctx: Any, text: str) -> Any:
        await ctx.run(note, "fails")
        raise ValueError(text)

    async def catch(ctx: Any, target: str) -> Any:
        try:
            await ctx.options(target=f"poll://any@{target}").rpc("fail", "no luck")
        except Exception as error:  # noqa: BLE001  what arrives is what is asked about
            return f"{who} caught: {error}"

    async def both(ctx: Any, target: str) -> Any:
        there = ctx.options(target=f"poll://any@{target}")
        first, second = there.rpc("hello", "one"), there.rpc("hello", "two")
        return [await second, await first]

    async def passed(ctx: Any, path: str) -> Any:
        note(ctx, "waits")
        while not Path(path).exists():  # noqa: ASYNC110, ASYNC240  the test makes it
            await asyncio.sleep(0.01)
        return "passed"

    async def gate(ctx: Any, path: str) -> Any:
        await ctx.run(note, "begins")
        return await ctx.run(passed, path)

    async def leave(ctx: Any, target: str) -> Any:
        await ctx.options(target=f"poll://any@{target}").detached("link", 9, [])
        return "left"

    return [hello, link, nap, ask, fail, catch, both, gate, leave]


async def work(group: str, url: str, log: str) -> None:
    resonate = Resonate(url=url, group=group, ttl=TTL)
    for function in functions(group, Path(log)):
        resonate.register(function)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def call(group: str, url: str, calls: str) -> None:
    resonate = Resonate(url=url, group="callers", ttl=TTL)
    there = resonate.options(target=f"poll://any@{group}")
    for id, function, *arguments in json.loads(calls):
        try:
            value = await there.rpc(id, function, *arguments).result()
            print(json.dumps({"value": value}), flush=True)
        except Exception as error:  # noqa: BLE001  what arrives is what is asked about
            print(json.dumps({"error": str(error)}), flush=True)
    await resonate.stop()


async def resolve(id: str, url: str, value: str) -> None:
    resonate = Resonate(url=url, group="people", ttl=TTL)
    await asyncio.sleep(0.1)  # 0.7.4 calls its network stopped until a task of its own has run
    record = await resonate.promises.resolve(id, Value(data=json.loads(value)))
    print(json.dumps({"value": record.state}), flush=True)
    await resonate.stop()


if __name__ == "__main__":
    asyncio.run({"work": work, "call": call, "resolve": resolve}[sys.argv[1]](*sys.argv[2:]))
