"""Fan out to 1,000 children, fan in their results, with a progress bar.

Each child is a step that takes up to two seconds, and all of them run at once. They are kept
in `fan_out.db`: kill this program half-way (`kill -9` will do), start it again, and it runs
only the children whose results were not recorded. Run it once more and there is nothing left
to do. `--id` starts another census.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from resonate_aio import Context, Resonate
from resonate_aio.errors import StoreOwnedError

resonate = Resonate.local(path="fan_out.db")
ran_here = 0


async def count_district(ctx: Context, number: int) -> int:
    """One child: stands for a request to somebody who takes a while to answer."""
    global ran_here  # noqa: PLW0603  what this process did, as opposed to what is recorded
    await asyncio.sleep(random.uniform(0, 2))  # noqa: S311
    ran_here += 1
    return number * number


@resonate.register
async def census(ctx: Context, districts: int) -> int:
    calls = [ctx.run(count_district, number) for number in range(districts)]
    total = 0
    for done, call in enumerate(asyncio.as_completed(calls), start=1):
        total += await call
        show_progress(done, districts)
    return total


def show_progress(done: int, of: int) -> None:
    """A bar where a person looks on; nothing where the output goes to a file or a pipe."""
    if sys.stderr.isatty():
        bar = "#" * (40 * done // of)
        print(f"\r[{bar:<40}] {done}/{of}", end="\n" if done == of else "", file=sys.stderr)


async def main(id: str, districts: int) -> None:
    async with resonate:
        total = await resonate.run(id, census, districts)
    print(f"{id}: {total} people; {ran_here} districts were counted by this run")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--id", default="census-1", help="which census (default: %(default)s)")
    parser.add_argument("--districts", type=int, default=1000, help="how many children")
    arguments = parser.parse_args()
    if not arguments.id or not arguments.id.isprintable():
        parser.error("--id must be text that can be printed, and not empty")
    if arguments.districts < 1:
        parser.error("--districts must be 1 or more")
    try:
        asyncio.run(main(arguments.id, arguments.districts))
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on", file=sys.stderr)
        sys.exit(130)
    except StoreOwnedError as error:
        sys.exit(str(error))
