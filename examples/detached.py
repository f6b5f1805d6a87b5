"""Fire and forget: start something that outlives the function that started it.

A function ends only when every call it made has ended, so that no failure gets lost; what
should go on without it is `ctx.detached`. Here an order is confirmed at once, while a survey
is sent to the customer some time later. Kill the program before that, start it again, and the
survey is still sent, once: it is recorded in `detached.db` like everything else.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from resonate_aio import Context, Resonate
from resonate_aio.errors import StoreOwnedError

resonate = Resonate.local(path="detached.db")


@resonate.register
async def order(ctx: Context, item: str) -> dict[str, str]:
    parcel = await ctx.begin_run(ship, item)  # begun, and waited for: at the latest at the end
    survey = await ctx.detached(send_survey, item).options(id=f"{ctx.id}/survey")
    return {"parcel": await parcel, "survey": survey.id}


async def ship(ctx: Context, item: str) -> str:
    print(f"  shipping a {item}")
    return f"parcel of one {item}"


@resonate.register  # what is detached is found by its name, so it must be registered
async def send_survey(ctx: Context, item: str) -> str:
    await ctx.sleep(1)
    return await ctx.run(send_mail, f"how do you like your {item}?")


def send_mail(ctx: Context, text: str) -> str:
    print(f"  mailing: {text}")
    return f"sent {text!r}"


async def main(id: str) -> None:
    async with resonate:
        confirmed = await resonate.run(id, order, "kettle")
        print(f"{id} has ended: {confirmed}")
        survey = resonate.get(confirmed["survey"])
        print(f"{survey.id} has ended: {await survey}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--id", default="order-1", help="which order (default: %(default)s)")
    arguments = parser.parse_args()
    if not arguments.id or not arguments.id.isprintable():
        parser.error("--id must be text that can be printed, and not empty")
    try:
        asyncio.run(main(arguments.id))
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on", file=sys.stderr)
        sys.exit(130)
    except StoreOwnedError as error:
        sys.exit(str(error))
