"""A schedule: start a function every second, exactly once each, whoever is there.

The ticks belong to the file `schedule.db`, not to the process. Run it with `--leave`, or kill it,
and start it again a little later: the ticks that nobody was there for are caught up with, none is
left out and none comes twice. Without `--leave` the schedule is deleted at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from resonate_aio import Context, Resonate
from resonate_aio.errors import StoreOwnedError

EVERY_SECOND = "* * * * * *"  # with seconds first; "0 9 * * mon" would be each Monday at nine

resonate = Resonate.local(path="schedule.db")


@resonate.register
async def chime(ctx: Context, sound: str) -> None:
    """One execution per tick; its id ends with the tick's time in milliseconds."""
    tick_s = int(ctx.id.rpartition("-")[2]) / 1000
    await ctx.run(ring, sound, tick_s)


async def ring(ctx: Context, sound: str, tick_s: float) -> None:
    late_s = time.time() - tick_s
    caught_up = f"  ({late_s:.0f} s ago, when nobody was here)" if late_s > 1 else ""
    print(f"  {time.strftime('%H:%M:%S', time.localtime(tick_s))} {sound}{caught_up}")


async def main(seconds: float, leave: bool) -> None:
    async with resonate:
        await resonate.schedule("clock", chime, EVERY_SECOND, "ding")
        await asyncio.sleep(seconds)
        if leave:
            print("left ticking; start this program again soon")
        else:
            await resonate.schedules.delete("clock")
            print("deleted")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="(default: %(default)s)")
    parser.add_argument("--leave", action="store_true", help="do not delete the schedule")
    arguments = parser.parse_args()
    if not 0 <= arguments.seconds <= 1e9:
        parser.error("--seconds must be 0 or more, and no more than a few decades")
    try:
        asyncio.run(main(arguments.seconds, arguments.leave))
    except KeyboardInterrupt:
        told = "interrupted; the ticks go on in the file until a run deletes the schedule"
        print(f"\n{told}", file=sys.stderr)
        sys.exit(130)
    except StoreOwnedError as error:
        sys.exit(str(error))
