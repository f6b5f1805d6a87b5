"""Sleep durably: the alarm is set once, whatever happens to the process that waits for it.

Start it, kill it (`kill -9`, Ctrl-C, the power plug), start it again: it sleeps for what is
left, not for the whole time again, and not at all if the time is over. The alarm is kept in
`durable_sleep.db`; once it has rung, another run only tells what happened. `--id` sets another.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from resonate_aio import Context, Resonate
from resonate_aio.errors import StoreOwnedError

resonate = Resonate.local(path="durable_sleep.db")


@resonate.register
async def alarm(ctx: Context, seconds: float) -> str:
    set_at = await ctx.time.time()  # recorded: after a restart it is still the first one's time
    print(f"  set at {clock(set_at)} for {seconds:g} s later, it is {clock(time.time())} now")
    await ctx.sleep(seconds)  # a number of seconds or a timedelta, years if you like
    rang_at = await ctx.time.time()
    return f"rang at {clock(rang_at)}, {rang_at - set_at:.1f} s after it was set"


def clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


async def main(id: str, seconds: float) -> None:
    async with resonate:
        print(f"{id}: {await resonate.run(id, alarm, seconds)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--id", default="alarm-1", help="which alarm (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    if not arguments.id or not arguments.id.isprintable():
        parser.error("--id must be text that can be printed, and not empty")
    if not 0 <= arguments.seconds <= 1e9:
        parser.error("--seconds must be 0 or more, and no more than a few decades")
    try:
        asyncio.run(main(arguments.id, arguments.seconds))
    except KeyboardInterrupt:
        print("\ninterrupted; the alarm stays set", file=sys.stderr)
        sys.exit(130)
    except StoreOwnedError as error:
        sys.exit(str(error))
