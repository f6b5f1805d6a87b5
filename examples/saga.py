"""A saga: transfer money in steps, and give it back where a step fails or somebody cancels.

Three transfers between accounts of a toy bank: one that works, one to a closed account, one
that is cancelled half-way. Kill the program at any instant and start it again: no money is
lost, none is made, and nothing is booked twice. Run it once more and nothing is booked at all.

What makes that so: `transfer` and its steps are recorded in `saga.db`, and each booking has a
key, so that a step which was killed before it was recorded may safely run again.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
from contextlib import closing

from resonate_aio import Context, Resonate
from resonate_aio.errors import StoreOwnedError

resonate = Resonate.local(path="saga.db")

# ------------------------------------------------------------------------------ the saga


@resonate.register
async def transfer(ctx: Context, source: str, target: str, cents: int) -> str:
    """Move the money, or see to it that nothing was moved.

    `move` is an execution of its own (`rpc`): whoever cancels ends `move`, and this function
    is still there to clean up. It need not know how far `move` came: voiding is safe for what
    was never booked, and keeps it from being booked later.
    """
    try:
        await ctx.rpc(move, ctx.id, source, target, cents).options(id=f"{ctx.id}/move")
    except Exception as failure:  # noqa: BLE001  whatever it was, the money goes back
        await ctx.run(void, f"{ctx.id}/deposit")
        await ctx.run(void, f"{ctx.id}/withdrawal")
        return f"given back: {failure}"
    return "moved"


@resonate.register
async def move(ctx: Context, transfer_id: str, source: str, target: str, cents: int) -> None:
    await step(ctx, f"{transfer_id}/withdrawal", source, -cents)
    await ctx.sleep(1)  # such things take their time
    await step(ctx, f"{transfer_id}/deposit", target, cents)


async def step(ctx: Context, key: str, account: str, cents: int) -> None:
    """A helper: calls made with the `ctx` it is given belong to the function that calls it."""
    await ctx.run(book, key, account, cents).options(non_retryable_exceptions=BankError)


# ------------------------------------------- the bank: not ours, so it has its own database


class BankError(Exception):
    """The bank refuses, and would refuse again."""


def bank() -> sqlite3.Connection:
    connection = sqlite3.connect("saga_bank.db", isolation_level="IMMEDIATE")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS booked (key TEXT PRIMARY KEY, account TEXT, cents INTEGER)"
    )
    opening = [("opening/alice", "alice", 10_000), ("opening/bob", "bob", 5_000)]
    with connection:
        connection.executemany("INSERT OR IGNORE INTO booked VALUES (?, ?, ?)", opening)
    return connection


def book(ctx: Context, key: str, account: str, cents: int) -> None:
    """Book under a key: asking again changes nothing, and what was voided stays void."""
    if account == "carol":
        raise BankError(f"the account of {account} is closed")
    with closing(bank()) as connection, connection:
        row = connection.execute(
            "INSERT OR IGNORE INTO booked VALUES (?, ?, ?) RETURNING key", (key, account, cents)
        ).fetchone()
    if row:
        print(f"  {account:<6}{cents / 100:+8.2f}  {key}")


def void(ctx: Context, key: str) -> None:
    with closing(bank()) as connection, connection:
        row = connection.execute(
            "UPDATE booked SET cents = 0 WHERE key = ? AND cents != 0 RETURNING account", (key,)
        ).fetchone()
        connection.execute("INSERT OR IGNORE INTO booked VALUES (?, NULL, 0)", (key,))
    if row:
        print(f"  {row[0]:<6}    void  {key}")


def balances() -> str:
    query = "SELECT account, sum(cents) FROM booked WHERE account NOTNULL GROUP BY account"
    with closing(bank()) as connection:
        rows = connection.execute(query).fetchall()
    return ", ".join(f"{account} {cents / 100:.2f}" for account, cents in rows)


def is_booked(key: str) -> bool:
    with closing(bank()) as connection:
        return (
            connection.execute("SELECT 1 FROM booked WHERE key = ?", (key,)).fetchone() is not None
        )


# ------------------------------------------------------------------------------- the demo


async def change_ones_mind(id: str) -> None:
    """Cancel a transfer when its money is on the way."""
    while not is_booked(f"{id}/withdrawal"):  # noqa: ASYNC110  the bank tells nobody
        await asyncio.sleep(0.05)
    await resonate.promises.cancel(f"{id}/move")


async def main() -> None:
    async with resonate:
        print(balances())
        transfers = [
            resonate.begin_run("transfer-1", transfer, "alice", "bob", 3_000),
            resonate.begin_run("transfer-2", transfer, "alice", "carol", 2_000),
            resonate.begin_run("transfer-3", transfer, "alice", "bob", 1_000),
        ]
        await change_ones_mind("transfer-3")
        for handle in transfers:
            print(f"{handle.id}: {await handle}")
    print(balances())


if __name__ == "__main__":
    argparse.ArgumentParser(description=str(__doc__).partition("\n")[0]).parse_args()
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on", file=sys.stderr)
        sys.exit(130)
    except StoreOwnedError as error:
        sys.exit(str(error))
