"""Change a durable function while executions of it are under way.

Four releases of one program, one after the other on the same `versions.db`; each stops while
sign-ups wait for their customers. What runs finishes with the code it began with, as long as
that code stays registered under its version; what is new takes the newest. Changing the code
of a version in place is noticed: the execution stops, nothing of it is lost, and it goes on
when the old code is back.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

from resonate_aio import Context, Resonate
from resonate_aio.errors import NonDeterminismError, StoreOwnedError

Signup = Callable[[Context, str], Awaitable[str]]


async def signup_v1(ctx: Context, name: str) -> str:
    await ctx.run(reserve_name, name)
    await confirmed(ctx)
    return f"{name} (version 1)"


async def signup_v2(ctx: Context, name: str) -> str:
    await ctx.run(check_name, name)  # new: so it is a new version
    await ctx.run(reserve_name, name)
    await confirmed(ctx)
    return f"{name} (version 2)"


async def signup_v2_edited(ctx: Context, name: str) -> str:
    await ctx.run(reserve_name, name)  # "let us reserve first": what runs has recorded a check
    await ctx.run(check_name, name)
    await confirmed(ctx)
    return f"{name} (version 2, edited)"


async def confirmed(ctx: Context) -> None:
    """Wait for the customer to press a button."""
    button = await ctx.promise(id=f"{ctx.id}/confirmed")
    await button


async def reserve_name(ctx: Context, name: str) -> None:
    print(f"  reserving {name}")


async def check_name(ctx: Context, name: str) -> None:
    print(f"  checking {name}")


def release(signups: dict[int, Signup]) -> Resonate:
    """What a release has: the sign-up functions, by version."""
    resonate = Resonate.local(path="versions.db")
    for version, signup in signups.items():
        resonate.register(signup, name="signup", version=version)
    return resonate


async def main() -> None:
    print("Release 1 has version 1. Ada signs up, and takes her time:")
    async with release({1: signup_v1}) as resonate:
        await pending(resonate, "ada")

    print("Release 2 has both. Bob signs up; Ada confirms, and ends with version 1:")
    async with release({1: signup_v1, 2: signup_v2}) as resonate:
        await pending(resonate, "bob")
        await confirm(resonate, "ada")

    print("Release 3 changed version 2 in place. Bob confirms, and is stopped:")
    async with release({2: signup_v2_edited}) as resonate:
        try:
            await confirm(resonate, "bob")
        except NonDeterminismError as error:
            print(f"  {error}")

    print("Release 4 has the old code again, and the new one as version 3:")
    async with release({2: signup_v2, 3: signup_v2_edited}) as resonate:
        await confirm(resonate, "bob")


async def pending(resonate: Resonate, name: str) -> None:
    """Sign somebody up with the newest version, and see them wait."""
    handle = resonate.begin_run(name, "signup", name)
    try:
        print(f"  {await handle.result(timeout=0.2)}")
    except TimeoutError:
        print(f"  {name} has not confirmed yet")


async def confirm(resonate: Resonate, name: str) -> None:
    await resonate.promises.resolve(f"{name}/confirmed")
    print(f"  signed up: {await resonate.get(name)}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=str(__doc__).partition("\n")[0]).parse_args()
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on", file=sys.stderr)
        sys.exit(130)
    except StoreOwnedError as error:
        sys.exit(str(error))
