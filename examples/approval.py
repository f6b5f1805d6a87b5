"""A human in the loop: an expense waits until somebody says yes or no.

    python examples/approval.py                 # a task of this process decides after a second
    python examples/approval.py --id lamp       # starts another expense the same way
    python examples/approval.py --id desk --leave         # asks, and does not wait long
    python examples/approval.py --id desk --answer yes    # days later: another process answers

The answer is a durable promise: it may be given while the program runs or after a restart, and
`approval.db` remembers it. Ask again under an id that was answered, and the answer is there.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateStoreError, StoreOwnedError

resonate = Resonate.local(path="approval.db")


@resonate.register
async def expense(ctx: Context, item: str, euros: int) -> str:
    approval = await ctx.promise(id=f"{ctx.id}/approval", timeout=30 * 24 * 3600)
    await approval.created()  # stored: an answer is taken from here on, whatever happens to us
    await ctx.run(ask_the_boss, item, euros, approval.id)
    verdict: dict[str, Any] = await approval  # a second or a month: no thread, no polling
    if verdict["ok"]:
        return await ctx.run(order, item)
    return f"{item}: not this year, says {verdict['by']}"


def ask_the_boss(ctx: Context, item: str, euros: int, promise_id: str) -> None:
    """Stands for a mail with a link in it; the link holds the promise's id."""
    print(f"  to the boss: may we buy a {item} for {euros} EUR? (answers go to {promise_id})")


def order(ctx: Context, item: str) -> str:
    print(f"  to the shop: one {item}, please")
    return f"{item}: ordered"


async def answer(id: str, ok: bool, by: str) -> None:
    """What the web page behind the link does."""
    promise = await resonate.promises.resolve(f"{id}/approval", value={"ok": ok, "by": by})
    print(f"  {promise.id} is {promise.state}")


async def boss(id: str) -> None:
    """The boss, played by another task of this process."""
    await asyncio.sleep(1)
    await answer(id, ok=True, by="the boss")


async def ask(id: str, *, leave: bool) -> None:
    async with resonate:
        handle = await resonate.begin_run(id, expense, id, 300).created()
        if leave:
            try:
                print(await handle.result(timeout=1))
            except TimeoutError:
                print(f"no answer yet; whenever you like: {sys.argv[0]} --id {id} --answer yes")
            return
        async with asyncio.TaskGroup() as tasks:
            if not handle.done():
                tasks.create_task(boss(id))
            print(await handle)


async def answer_after_a_restart(id: str, *, ok: bool) -> None:
    async with resonate:  # what waits in the file goes on by itself
        try:
            await answer(id, ok=ok, by="the boss, later")
        except ResonateStoreError as error:
            sys.exit(f"nobody asked about {id!r}: {error}")
        print(await resonate.get(id))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--id", default="chair", help="what to buy (default: %(default)s)")
    parser.add_argument(
        "--leave", action="store_true", help="ask and leave; who answers does it later"
    )
    parser.add_argument("--answer", choices=["yes", "no"], help="answer what was asked before")
    arguments = parser.parse_args()
    if not arguments.id or not arguments.id.isprintable():
        parser.error("--id must be text that can be printed, and not empty")
    try:
        if arguments.answer:
            asyncio.run(answer_after_a_restart(arguments.id, ok=arguments.answer == "yes"))
        else:
            asyncio.run(ask(arguments.id, leave=arguments.leave))
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on", file=sys.stderr)
        sys.exit(130)
    except StoreOwnedError as error:
        sys.exit(str(error))
