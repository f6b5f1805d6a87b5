"""How many functions a process executes at once: `workers`.

Six executions are started together, three times: without a limit, with four workers, and with
one, as a function needs that drives the only browser or connection its process has. One that
waits (for another call, a promise, a sleep) is not executing, and leaves its place to the next.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from resonate_aio import Context, Resonate

EXECUTIONS = 6


class Browser:
    """Stands for what a process has one of. It counts who uses it at once."""

    def __init__(self) -> None:
        self.users = 0
        self.most = 0

    async def visit(self) -> None:
        self.users += 1
        self.most = max(self.most, self.users)
        await asyncio.sleep(0.05)
        self.users -= 1


async def visit(ctx: Context, page: str) -> str:
    await ctx.get_dependency("browser").visit()
    return page


async def crawl(ctx: Context, page: str) -> str:
    """Two visits and a rest; while it rests, another may visit."""
    await ctx.run(visit, page)
    await ctx.sleep(0.05)
    return await ctx.run(visit, f"{page}/next")


async def crawled_by(workers: int | None) -> tuple[list[str], int]:
    """What the executions return, and how many used the browser at once at the most."""
    async with Resonate(workers=workers) as resonate:
        resonate.register(crawl)
        resonate.set_dependency("browser", browser := Browser())
        runs = [resonate.begin_run(f"page-{n}", crawl, f"page-{n}") for n in range(EXECUTIONS)]
        return [await run for run in runs], browser.most


async def main() -> None:
    for workers in (None, 4, 1):
        pages, most = await crawled_by(workers)
        print(f"workers={workers}: {len(pages)} executions ended, at most {most} at once")


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
