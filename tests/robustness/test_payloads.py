"""What is stored is data, whatever it says: it imports nothing and calls nothing (S51, law 14).

Every hostile text is written into every place of a SQLite file where text is kept, then the
file is opened again. An audit hook watches what the interpreter does meanwhile.
"""

import asyncio
import base64
import itertools
import json
import os
import pickle
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate

GOOD = 50
_WATCHED = (
    "import",
    "exec",
    "code.__new__",
    "pickle.find_class",
    "marshal.loads",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.remove",
    "subprocess.Popen",
    "socket.connect",
    "ctypes.dlopen",
)


class Audit:
    """What the interpreter did while it was watched."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._is_watching = False
        self._is_installed = False

    @contextmanager
    def watching(self) -> Iterator["Audit"]:
        if not self._is_installed:
            sys.addaudithook(self._heard)  # for the life of the process: it cannot be taken out
            self._is_installed = True
        self.seen.clear()
        self._is_watching = True
        try:
            yield self
        finally:
            self._is_watching = False

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_watching and event in _WATCHED:
            self.seen.append(f"{event} {arguments!r:.100}")


audit = Audit()


class Bait:
    """What unpickling this leaves behind is a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def error(module: str, name: str, *args: Any, **more: Any) -> str:
    data = {"__type": "error", "name": name, "message": "forged", "module": module}
    return json.dumps({**data, "args": list(args), **more})


def hostile(trap: Path) -> dict[str, str | bytes]:
    """Texts by what they try."""
    pickled = base64.b64encode(pickle.dumps(Bait(trap))).decode()
    shell = f"touch {trap}"
    reduce = [{"py/function": "os.system"}, {"py/tuple": [shell]}]
    forged = error("builtins", "SystemExit", 3)
    return {
        "a pickle": json.dumps(pickled),
        "a raw pickle": pickle.dumps(Bait(trap)),
        "__py_pickle": json.dumps({"__type": "error", "message": "x", "__py_pickle": pickled}),
        "jsonpickle object": json.dumps({"py/object": "os.system", "args": [shell]}),
        "jsonpickle reduce": json.dumps({"py/reduce": reduce}),
        "jsonpickle header": json.dumps({"resonate:format-py": json.dumps({"py/reduce": reduce})}),
        "a function": error("os", "system", shell),
        "a class that runs": error("subprocess", "Popen", ["touch", str(trap)]),
        "a module not loaded": error("antigravity", "Error"),
        "a module as a path": error("antigravity.geohash", "Error"),
        "a file as a module": error("../../etc/passwd", "Error"),
        "a dunder walk": error("builtins", "Exception.__subclasses__"),
        "a method of a module": error("os", "environ.get"),
        "a member that runs": json.dumps({"func": "__import__", "args": ["antigravity"]}),
        "a dotted function": json.dumps({"func": "os.system", "args": [shell], "version": 1}),
        "CancelledError": error("asyncio.exceptions", "CancelledError"),
        "SystemExit": forged,
        "KeyboardInterrupt": error("builtins", "KeyboardInterrupt"),
        "GeneratorExit": error("builtins", "GeneratorExit"),
        "StopIteration": error("builtins", "StopIteration", 1),
        "StopAsyncIteration": error("builtins", "StopAsyncIteration"),
        "a group": error("builtins", "BaseExceptionGroup", members=[json.loads(forged)] * 3),
        "a cause": error("builtins", "ValueError", cause=json.loads(forged)),
        "attributes": error("builtins", "ValueError", attributes={"__class__": "os", "args": 1}),
        "our own error": error("resonate_aio.errors", "NonDeterminismError", "forged"),
        "an error of the wrong kind": json.dumps(
            {"__type": "error", "name": 5, "message": [], "module": {}, "args": {}, "notes": 1}
        ),
        "deep arrays": "[" * 100_000 + "]" * 100_000,
        "deep objects": '{"a":' * 5_000 + "1" + "}" * 5_000,
        "open arrays": "[" * 100_000,
        "a huge integer": "1" * 10_000,
        "a huge float": "1e999999999",
        "NaN": "NaN",
        "infinity": '{"code": -Infinity}',
        "twice the same key": '{"func": "step", "func": "os.system", "code": 1, "code": 2}',
        "half a surrogate": '{"code": "\\ud800"}',
        "NUL": '{"code": "\\u0000", "\\u0000": 1}',
        "no UTF-8": b'{"code": "\xff\xfe"}',
        "no JSON": "{'code': __import__('os')}",
        "nothing": "",
        "no address": '{"resonate:target": "../../x", "resonate:origin": "%s"}',
        "an address of nobody": '{"resonate:target": "poll://uni@nobody/nowhere"}',
        "a URL": '{"resonate:target": "http://127.0.0.1:9/x"}',
        "a timer": '{"resonate:timer": "true", "resonate:target": "poll://any@default"}',
        "a list": "[1, 2, 3]",
        "a number": "7",
        "numbers as headers": '{"resonate-aio:log": 5, "resonate-aio:fp": null}',
        "a broken log": '{"resonate-aio:log": "[[[", "resonate-aio:fp": "run"}',
        "a strange log": '{"resonate-aio:log": "[1e400, \\"x\\", {}]"}',
    }


ENDED = "settled_at_ms = created_at_ms, task_state = 'fulfilled'"

# Where text is kept: the row's id below that of its execution, and the change of the row.
PLACES: dict[str, tuple[str, str]] = {
    "param of the root": ("", "param_data = :text"),
    "headers of the root": ("", "param_headers = :text"),
    "tags of the root": ("", "tags = :text"),
    "param of a step": (".1", "param_data = :text"),
    "headers of a step": (".1", "param_headers = :text"),
    "value of a step": (".1", "value_data = :text"),
    "error of a step": (".1", "state = 'rejected', value_data = :text"),
    "headers of a value": (".1", "value_headers = :text"),
    "tags of a step": (".1", "tags = :text"),
    "value of an execution": ("", f"state = 'resolved', {ENDED}, value_data = :text"),
    "error of an execution": ("", f"state = 'rejected', {ENDED}, value_data = :text"),
    "error of a promise": (
        "-gate",
        "state = 'rejected', settled_at_ms = created_at_ms, value_data = :text",
    ),
}


@dataclass
class Order:
    code: int


@dataclass
class Receipt:
    code: int


async def step(ctx: Context, order: Order) -> Receipt:
    return Receipt(order.code)


async def buy(ctx: Context, order: Order) -> Receipt:
    receipt = await ctx.run(step, order)
    await (await ctx.promise(id=f"{ctx.id}-gate"))
    return receipt


async def first_life(path: Path, ids: list[str]) -> None:
    """Every execution has run its step, and waits at its gate."""
    async with Resonate.local(path=path, synchronous="NORMAL") as resonate:
        resonate.register(buy)
        for id in ids:
            await resonate.begin_run(id, buy, Order(1)).created()
        async with asyncio.timeout(30):
            while (await count(path, "id GLOB '*-gate'")) < len(ids):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def second_life(path: Path, good: list[str], bad: list[str]) -> list[Any]:
    """The gates open; what the good ones give, and then a new one."""
    async with Resonate.local(path=path, synchronous="NORMAL") as resonate:
        resonate.register(buy)
        async with asyncio.timeout(40):
            for id in (*bad, *good):
                await resonate.promises.resolve(f"{id}-gate")
            handles = [resonate.begin_run(id, buy, Order(1)) for id in good]
            results = await asyncio.gather(*handles)
            new = resonate.begin_run("new", buy, Order(2))
            await resonate.promises.create("new-gate", timeout_in=100)
            await resonate.promises.resolve("new-gate")
            results.append(await new)
            ended = [asyncio.create_task(outcome(resonate, id)) for id in bad]
            await asyncio.wait(ended, timeout=0.5)
            for task in ended:
                task.cancel()
            await asyncio.gather(*ended, return_exceptions=True)
        return results


async def outcome(resonate: Resonate, id: str) -> None:
    try:
        await resonate.get(id)
    except Exception as raised:  # noqa: BLE001  reading and showing it must run nothing either
        repr(raised)


async def count(path: Path, where: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM promises WHERE {where}").fetchone()[
            0
        ]
    return found


def edit(path: Path, changes: dict[str, tuple[str, str | bytes]]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for id, (place, text) in changes.items():
            suffix, change = PLACES[place]
            if isinstance(text, bytes):  # as text, though it is none
                change = change.replace(":text", "CAST(:text AS TEXT)")
            done = connection.execute(
                f"UPDATE promises SET {change} WHERE id = :id", {"id": id + suffix, "text": text}
            )
            assert done.rowcount == 1, (id, place)
        connection.commit()


def test_the_audit_sees_what_payloads_might_do(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    with audit.watching():
        pickle.loads(pickle.dumps(Bait(trap)))
        with pytest.raises(ModuleNotFoundError):
            __import__("no_such_module_anywhere")
    events = {event.partition(" ")[0] for event in audit.seen}
    assert {"os.system", "pickle.find_class", "import"} <= events
    assert trap.exists()


def test_stored_text_imports_nothing_and_calls_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others finish, the worker lives, and nobody is tried again and again."""
    trap, path = tmp_path / "trap", tmp_path / "app.db"
    texts = hostile(trap)
    cases = list(itertools.product(PLACES, texts))
    bad = {f"bad{number}": case for number, case in enumerate(cases)}
    good = [f"good{number}" for number in range(GOOD)]
    asyncio.run(first_life(path, [*bad, *good]))
    asyncio.run(warm_up(tmp_path / "other.db"))
    edit(path, {id: (place, texts[text]) for id, (place, text) in bad.items()})
    modules = set(sys.modules)
    with audit.watching():
        results = asyncio.run(second_life(path, good, list(bad)))
    assert results == [Receipt(1)] * GOOD + [Receipt(2)]
    assert not audit.seen
    assert set(sys.modules) == modules
    assert not trap.exists()
    assert_bounded(path, bad)
    broken = [r.getMessage() for r in caplog.records if "this is a bug" in r.getMessage()]
    assert not broken


async def warm_up(path: Path) -> None:
    """What the runtime imports late, it imports here: errors, logs, joins."""
    await first_life(path, ["one", "two"])
    edit(path, {"two": ("error of a step", "{}")})
    await second_life(path, ["one"], ["two"])


def assert_bounded(path: Path, bad: dict[str, tuple[str, str]]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT id, state, version FROM promises WHERE task_state IS NOT NULL"
        ).fetchall()
    for id, state, version in rows:
        assert version < 8, f"{id} {bad.get(id)}: acquired {version} times"
        assert state in {"pending", "resolved", "rejected"}, (id, bad.get(id), state)
