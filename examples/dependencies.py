"""Give durable functions what cannot be stored: connections, clients, settings.

Arguments and results are recorded, so they are data. An object of this process is set once
with `set_dependency` and asked for by name, in any function, as often as you like: nothing is
recorded of it, and after a restart the functions get the new process's object. A test sets
another object under the same name; this program does that in its second half.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Protocol

from resonate_aio import Context, Resonate

resonate = Resonate()


class Mailer(Protocol):
    async def send(self, to: str, text: str) -> str: ...


class SlowMailer:
    """The real one: connected when the program starts."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.sent = 0

    async def send(self, to: str, text: str) -> str:
        await asyncio.sleep(0.2)
        self.sent += 1
        return f"mail {self.sent} to {to} over {self.server}: {text}"


class FakeMailer:
    """The one for tests: it keeps what it was given."""

    def __init__(self) -> None:
        self.outbox: list[tuple[str, str]] = []

    async def send(self, to: str, text: str) -> str:
        self.outbox.append((to, text))
        return "kept"


@resonate.register
async def invite(ctx: Context, guests: list[str]) -> list[str]:
    return await asyncio.gather(*(ctx.run(send_invitation, guest) for guest in guests))


async def send_invitation(ctx: Context, guest: str) -> str:
    mailer: Mailer = ctx.get_dependency("mailer")
    return await mailer.send(guest, "the party is on Friday")


async def main() -> None:
    print("The program:")
    resonate.set_dependency("mailer", SlowMailer("smtp.example"))
    async with resonate:
        for line in await resonate.run("party-1", invite, ["Ada", "Grace"]):
            print(f"  {line}")

    print("Its test, with a client of its own, sends nothing:")
    test, mailer = Resonate(), FakeMailer()
    test.register(invite)
    test.set_dependency("mailer", mailer)
    async with test:
        await test.run("party-1", invite, ["Ada", "Grace"])
    print(f"  {mailer.outbox}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=str(__doc__).partition("\n")[0]).parse_args()
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
