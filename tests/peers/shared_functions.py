"""Durable functions in the dialect of SDK 0.6.7, run unedited by it and by this library.

Both register the same ones, so that each can call the other's. A worker writes a line into
its log for each step it runs; tests count them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

Durable = Generator[Any, Any, Any]


def functions(who: str, log: Path) -> list[Callable[..., Any]]:  # noqa: C901  many small ones
    """The functions of one worker.

    Args:
        who: The group of the worker.
        log: Where it writes what it did.
    """

    def note(ctx: Any, what: str) -> str:
        with log.open("a") as file:
            file.write(f"{who} {what}\n")
        return what

    def hello(ctx: Any, name: str, punctuation: str = ".") -> str:
        return f"{who} says hello to {name}{punctuation}"

    def link(ctx: Any, number: int, route: list[str]) -> Durable:
        """One link of a chain of calls: note it, call the next group of the route, add one."""
        yield ctx.run(note, f"link {number}")
        if not route:
            return number
        target = f"poll://any@{route[0]}"
        deeper = yield ctx.rfc("link", number + 1, route[1:]).options(target=target)
        yield ctx.run(note, f"back {number}")
        return deeper + 1

    def nap(ctx: Any, seconds: float) -> Durable:
        yield ctx.sleep(seconds)
        yield ctx.run(note, "rested")
        return f"{who} is rested"

    def ask(ctx: Any) -> Durable:
        """A human in the loop: the promise is `{id}.1`."""
        question = yield ctx.promise()
        answer = yield question
        return {"who": who, "heard": answer}

    def fail(ctx: Any, text: str) -> Durable:
        yield ctx.run(note, "fails")
        raise ValueError(text)

    def catch(ctx: Any, target: str) -> Durable:
        """Call a function that fails elsewhere, and say what arrived."""
        try:
            yield ctx.rfc("fail", "no luck").options(target=f"poll://any@{target}")
        except Exception as error:  # noqa: BLE001  the SDK raises no narrower class
            return f"{who} caught: {error}"

    def both(ctx: Any, target: str) -> Durable:
        """Two calls at a time, awaited in the other order."""
        first = yield ctx.rfi("hello", "one").options(target=f"poll://any@{target}")
        second = yield ctx.rfi("hello", "two").options(target=f"poll://any@{target}")
        return [(yield second), (yield first)]

    def wait_for(ctx: Any, path: str) -> int:
        """Note the process, wait until a file is there, say which process did so."""
        note(ctx, f"waits in {os.getpid()}")
        while not Path(path).exists():
            time.sleep(0.01)
        return os.getpid()

    def waits(ctx: Any, path: str) -> Durable:
        return (yield ctx.run(wait_for, path))

    def passed(ctx: Any, path: str) -> str:
        """Note it, wait until a file is there."""
        note(ctx, "waits")
        while not Path(path).exists():
            time.sleep(0.01)
        return "passed"

    def gate(ctx: Any, path: str) -> Durable:
        """A step that ends at once, and one that takes until a file is there."""
        yield ctx.run(note, "begins")
        return (yield ctx.run(passed, path))

    def leave(ctx: Any, target: str) -> Durable:
        """Have something done elsewhere, and do not wait for it."""
        yield ctx.detached("link", 9, []).options(target=f"poll://any@{target}")
        return "left"

    def where(ctx: Any) -> int:
        return os.getpid()

    return [hello, link, nap, ask, fail, catch, both, waits, gate, leave, where]
