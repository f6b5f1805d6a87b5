"""Say hello in the three dialects of durable functions: `async def`, generator, plain `def`.

They mean the same and call each other freely. Everything is kept in memory here: a second
call with the same id gives the recorded result, a second run of this file starts anew.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Generator
from typing import Any

from resonate_aio import Context, Resonate

resonate = Resonate()


@resonate.register
async def hello(ctx: Context, name: str) -> str:
    """An `async def` awaits its durable calls, and anything else that asyncio has."""
    greeting = await ctx.run(greet, name)
    signature = await ctx.run(sign, "asyncio")
    return f"{greeting} {signature}"


@resonate.register
def hello_yield(ctx: Context, name: str) -> Generator[Any, Any, str]:
    """A generator yields them: the dialect of the Resonate Python SDK 0.6.7."""
    greeting = yield ctx.run(greet, name)
    signature = yield ctx.run(sign, "a generator")
    return f"{greeting} {signature}"


@resonate.register
def greet(ctx: Context, name: str) -> str:
    """A plain `def` is a step. It runs on a worker thread, so it may block."""
    time.sleep(0.1)
    print(f"  greeting {name}")
    return f"Hello, {name}!"


async def sign(ctx: Context, dialect: str) -> str:
    """A step need not be registered; only what is started from outside must be."""
    return f"(from {dialect})"


async def main() -> None:
    async with resonate:
        print("async def:")
        print(await resonate.run("hello-1", hello, "Ada"))

        print("generator:")
        print(await resonate.run("hello-2", hello_yield, "Grace"))

        print("plain def:")
        print(await resonate.run("hello-3", greet, "Barbara"))

        print("the same id again greets nobody, its outcome is recorded:")
        print(await resonate.run("hello-1", hello, "Ada"))


if __name__ == "__main__":
    argparse.ArgumentParser(description=str(__doc__).partition("\n")[0]).parse_args()
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
