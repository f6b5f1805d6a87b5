"""Retry a flaky step until it works, and stop where trying again is pointless.

A step that fails is tried again by itself (`Exponential()` unless it is told otherwise); each
failed attempt is logged as a warning. The result that reaches the caller is the first good
one. Errors named in `non_retryable_exceptions` reach the caller at once.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from resonate_aio import Context, Resonate
from resonate_aio.retry_policies import Constant, Exponential

resonate = Resonate()


class CardRefusedError(Exception):
    """The bank's last word: no attempt will change it."""


async def fetch_rate(ctx: Context, currency: str) -> float:
    """Fails twice, then works; `ctx.info.attempt` counts from 1."""
    if ctx.info.attempt < 3:
        raise ConnectionError(f"no answer to attempt {ctx.info.attempt}")
    print(f"  the rate of {currency} at attempt {ctx.info.attempt}")
    return {"EUR": 1.0, "USD": 0.92}[currency]


async def charge(ctx: Context, card: str, amount: float) -> str:
    if card == "expired":
        raise CardRefusedError(f"card {card!r} was refused")
    return f"charged {amount:.2f} EUR to card {card!r}"


@resonate.register
async def pay(ctx: Context, card: str, dollars: float) -> str:
    patient = Exponential(delay=0.1, factor=2, max_retries=5, jitter=0.1)
    rate = await ctx.run(fetch_rate, "USD").options(retry_policy=patient)
    return await ctx.run(charge, card, dollars * rate).options(
        retry_policy=Constant(delay=1, max_retries=3),
        non_retryable_exceptions=(CardRefusedError,),
    )


async def main() -> None:
    logging.basicConfig(format="  %(levelname)s %(message)s", stream=sys.stdout)
    async with resonate:
        print("A step that fails twice:")
        print(await resonate.run("pay-1", pay, "gold", 10.0))

        print("An error that no attempt would change:")
        try:
            await resonate.run("pay-2", pay, "expired", 10.0)
        except CardRefusedError as error:
            print(f"not paid: {error}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=str(__doc__).partition("\n")[0]).parse_args()
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
