"""Constructing and configuring a client (mission table 1.2)."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.naming import named

from resonate_aio import Context, Dependencies, Registry, Resonate
from resonate_aio.errors import UsageError
from resonate_aio.protocol.requests import Execute, Message
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.stores.sqlite import SqliteStore
from resonate_aio.testing import SimClock
from resonate_aio.transports.local import LocalMessages

SOURCE = Path(__file__).parents[2] / "src"
NAMES = ("RESONATE_URL", "RESONATE_HOST")


@pytest.fixture(autouse=True)
def no_server_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith("RESONATE_"):
            monkeypatch.delenv(name)


async def echo(ctx: Context, n: int = 0) -> int:
    return n


def test_the_default_is_local_and_needs_no_loop() -> None:
    """Mission C1, P8: at import time, without a server, a file, a socket or an event loop."""
    program = """
import socket
def refuse(*args, **kwargs): raise AssertionError("a socket")
from resonate_aio import Resonate
resonate = Resonate()
@resonate.register
async def foo(ctx, n): return n + 1
import asyncio
async def main():
    socket.socket = refuse
    async with resonate: return await resonate.run("a", foo, 1)
print(asyncio.run(main()))
import os; print(os.listdir("."))
"""
    with_path = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    with TemporaryFolder() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            capture_output=True,
            text=True,
            cwd=folder,
            env=with_path,
            timeout=30,
            check=False,
        )
    assert (done.stdout.split("\n")[:2], done.stderr) == (["2", "[]"], "")


def TemporaryFolder() -> Any:  # noqa: N802  it is one
    import tempfile

    return tempfile.TemporaryDirectory()


async def test_local_in_memory_and_in_a_file(tmp_path: Path) -> None:
    """Mission C2, P8: memory, or one file that is there after the client has gone."""
    memory, file = Resonate.local(), tmp_path / "app.db"
    for resonate in (memory, Resonate.local(path=file), Resonate.local(path=os.fspath(file))):
        resonate.register(echo)
        async with resonate:
            assert await resonate.run("a", echo, 1) == 1
    assert file.exists()
    again = Resonate.local(path=file)
    async with again:
        assert await again.get("a") == 1


def test_every_argument_of_local() -> None:
    """Mission C2, C20: the arguments of 0.6.7 and ours, by keyword only."""
    Resonate.local(
        dependencies=Dependencies(),
        group="workers",
        log_level=None,
        pid="one",
        registry=Registry(),
        ttl=10,
        workers=2,
        retention=timedelta(days=30),
        check_arguments=False,
        synchronous="NORMAL",
        path=None,
    )
    positional: Any = Resonate
    with pytest.raises(TypeError):
        positional("http://localhost:8001")
    with pytest.raises(TypeError):
        positional.local("app.db")


async def test_groups_and_pids() -> None:
    """Mission C9, C10: `default`, and a generated name of one's own."""
    store = MemoryStore()
    plain, named = Resonate(store=store), Resonate(store=store, group="shop", pid="till-1")
    for resonate in (plain, named):
        resonate.register(echo)
    async with plain, named:
        await plain.run("a", echo)
        await named.run("b", echo)
        first = (await plain.promises.get("a")).tags["resonate:target"]
        assert first.startswith("poll://any@default/")
        assert len(first) > len("poll://any@default/") + 16, "generated"
        assert (await plain.promises.get("b")).tags["resonate:target"] == ("poll://any@shop/till-1")


@pytest.mark.parametrize("ttl", [10, 0.5, timedelta(seconds=30)])
def test_lease_times(ttl: Any) -> None:
    """Mission C11: seconds, a fraction of them, or a timedelta."""
    Resonate(ttl=ttl)
    Resonate.local(ttl=ttl)


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", 25])
def test_log_levels(level: Any) -> None:
    """Mission C12: of the library's logger; the root logger is nobody's but the application's."""
    logger, root = logging.getLogger("resonate_aio"), logging.getLogger()
    before, root_before = logger.level, (root.level, list(root.handlers))
    try:
        Resonate(log_level=level)
        assert logger.level == (level if isinstance(level, int) else getattr(logging, level))
        assert (root.level, root.handlers) == root_before
        assert not logger.handlers
    finally:
        logger.setLevel(before)


class Crowd:
    """Counts how many functions execute at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *error: object) -> None:
        self.now -= 1


async def test_workers_bound_how_many_execute() -> None:
    """Mission C13, C14: N functions at a time; without it coroutines are not limited."""
    for workers, expected in ((None, 12), (4, 4)):
        crowd = Crowd()

        async def work(ctx: Context, crowd: Crowd = crowd) -> None:
            with crowd:
                await asyncio.sleep(0.005)

        async with Resonate(workers=workers) as resonate:
            resonate.register(work)
            await asyncio.gather(*(resonate.run(f"w{n}", "work") for n in range(12)))
        assert crowd.most == expected


async def test_workers_bound_threads_too() -> None:
    """Mission C13: plain functions run on a private pool of that size."""
    crowd, lock = Crowd(), threading.Lock()

    def work(ctx: Context) -> None:
        with lock:
            crowd.__enter__()
        threading.Event().wait(0.005)
        with lock:
            crowd.__exit__()

    async with Resonate(workers=3) as resonate:
        resonate.register(work)
        await asyncio.gather(*(resonate.run(f"w{n}", "work") for n in range(9)))
    assert crowd.most == 3


async def test_a_single_worker() -> None:
    """Mission C15, S27: one function at a time, but not while it waits for something durable."""
    crowd = Crowd()

    async def step(ctx: Context) -> None:
        with crowd:
            await asyncio.sleep(0.002)

    async def flow(ctx: Context) -> str:
        await asyncio.gather(ctx.run(step), ctx.run(step))
        await ctx.sleep(0.005)
        await ctx.run(step)
        return "ended"

    async with Resonate(workers=1) as resonate:
        resonate.register(flow)
        ended = await asyncio.gather(*(resonate.run(f"f{n}", "flow") for n in range(4)))
    assert ended == ["ended"] * 4
    assert crowd.most == 1


class Watched:
    """A store of one's own: passes everything on to another, and counts what it is asked."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._store, name)


@pytest.mark.parametrize("is_watched", [False, True])
async def test_a_store_of_ones_own(tmp_path: Path, *, is_watched: bool) -> None:
    """Mission C16: any object that speaks the protocol; clients given the same one share it."""
    store: Any = SqliteStore(tmp_path / "app.db")
    store = Watched(store) if is_watched else store
    one, two = Resonate(store=store), Resonate(store=store)
    one.register(echo)
    async with one, two:
        assert await two.rpc("a", "echo", 1) == 1
        assert await one.get("a") == 1
    if is_watched:
        assert {"open", "call", "subscribe", "fulfill", "close"} <= set(store.asked)


class Postbox:
    """A message source of one's own: what a broker would be."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.heard: list[str] = []
        self.deliver: Callable[[Message], None] | None = None
        self.leave: Callable[[], None] | None = None

    async def start(
        self,
        group: str,
        pid: str,
        deliver: Callable[[Message], None],
        connected: Callable[[], None] | None = None,
    ) -> None:
        self.deliver = deliver
        self.leave = self.store.subscribe(group, pid, self.heard_one)

    def heard_one(self, message: Message) -> None:
        assert isinstance(message, Execute)
        self.heard.append(message.id)
        assert self.deliver is not None
        self.deliver(message)

    async def stop(self) -> None:
        assert self.leave is not None
        self.leave()
        self.deliver = None


async def test_a_message_source_of_ones_own() -> None:
    """Mission C17, C22, P7, S53: the store is one seam, where word of work comes from another."""
    store = MemoryStore()
    postbox = Postbox(store)
    resonate = Resonate(store=store, message_source=postbox)
    resonate.register(echo)
    async with resonate:
        assert await resonate.rpc("a", "echo", 1).result(5) == 1
        assert await resonate.run("b", echo, 2) == 2
        assert postbox.heard == ["a"]
    assert postbox.deliver is None, "stopped with its client"
    local = Resonate(store=store, message_source=LocalMessages(store))
    local.register(echo)
    async with local:
        assert await local.rpc("c", "echo", 3).result(5) == 3


async def test_registry_and_dependencies_are_shared() -> None:
    """Mission C18, C19."""
    registry, dependencies = Registry(), Dependencies()
    dependencies.add("db", "the database")
    clients = [Resonate(registry=registry, dependencies=dependencies) for _ in range(2)]

    @clients[0].register
    async def reads(ctx: Context) -> Any:
        return ctx.get_dependency("db")

    for client in clients:
        async with client:
            assert await client.run("a", reads) == "the database"


@pytest.mark.parametrize(
    "options",
    [
        {"group": ""},
        {"group": 5},
        {"group": None},
        {"group": "has space"},
        {"group": "a/b"},
        {"group": "a@b"},
        {"pid": ""},
        {"pid": 5},
        {"pid": "a\0b"},
        {"pid": "\ud800"},
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": "10"},
        {"ttl": float("nan")},
        {"ttl": True},
        {"log_level": "LOUD"},
        {"log_level": 1.5},
        {"log_level": True},
        {"workers": 0},
        {"workers": -1},
        {"workers": "4"},
        {"workers": 1.5},
        {"workers": True},
        {"store": 5},
        {"store": "app.db"},
        {"message_source": object()},
        {"message_source": 5, "store": MemoryStore()},
        {"registry": {}},
        {"dependencies": {"db": 1}},
        {"retention": -1},
        {"retention": "30d"},
        {"check_arguments": "yes"},
        {"clock": 5},
        {"clock": MemoryStore},
        {"clock": SimClock},
        {"settings": "fast"},
        {"settings": {"workers": 4}},
        {"auth": "user:password"},
        {"auth": ("user",)},
        {"auth": ("user", 5)},
        {"token": 5},
        {"token": ""},
        {"token": "line\nbreak"},
        {"url": 5},
        {"url": ""},
        {"url": "http://localhost:8001", "store": MemoryStore()},
        {"nonsense": 1},
    ],
    ids=named,
)
def test_wrong_arguments(options: dict[str, Any]) -> None:
    """Mission C20; it must show 5: named, and at once."""
    (name, *_) = options
    with pytest.raises((TypeError, ValueError), match=name):
        Resonate(**options)


def test_a_message_source_needs_a_store() -> None:
    """Mission C17: both or neither."""
    store = MemoryStore()
    with pytest.raises(ValueError, match="both or neither"):
        Resonate(message_source=LocalMessages(store))


def test_credentials_without_a_server() -> None:
    """Law 17: nothing runs in memory where a server was meant, and no message shows a secret."""
    for options in ({"auth": ("ada", "s3cret")}, {"token": "s3cret"}):
        given: Any = options
        with pytest.raises(UsageError) as raised:
            Resonate(**given)
        assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"path": 5},
        {"path": ""},
        {"path": "a\0b"},
        {"path": b"app.db"},
        {"synchronous": "OFF"},
        {"path": "app.db", "group": ""},
    ],
    ids=named,
)
def test_wrong_arguments_of_local(options: dict[str, Any]) -> None:
    """It must show 5."""
    with pytest.raises((TypeError, ValueError)):
        Resonate.local(**options)


# -- clients of a server: made without one; tests/remote and tests/legacy run them


def url_of(resonate: Resonate) -> str:
    return str(resonate._core.store._http.url)  # type: ignore[attr-defined]


def test_a_url() -> None:
    """Mission C5, C21: nothing is opened until the client starts."""
    assert url_of(Resonate(url="http://localhost:8001")) == "http://localhost:8001"
    assert url_of(Resonate(url="https://resonate.example.com/base")).startswith("https://")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RESONATE_URL": "http://a:1"}, "http://a:1"),
        ({"RESONATE_URL": "http://a:1", "RESONATE_HOST": "b"}, "http://a:1"),
        ({"RESONATE_HOST": "b"}, "http://b:8001"),
        ({"RESONATE_HOST": "b", "RESONATE_PORT": "2"}, "http://b:2"),
        ({"RESONATE_HOST": "b", "RESONATE_SCHEME": "https"}, "https://b:8001"),
        ({"RESONATE_HOST": "http://b"}, "http://b:8001"),
    ],
)
def test_the_environment_names_a_server(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mission C6: what is given wins, then RESONATE_URL, then RESONATE_HOST and its port."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert url_of(Resonate()) == expected
    assert url_of(Resonate(url="http://given:9")) == "http://given:9"
    assert type(Resonate.local()._core.store) is MemoryStore
    assert type(Resonate(store=MemoryStore())._core.store) is MemoryStore


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({}, {}, "http://localhost:8001"),
        ({"host": "http://h", "store_port": "1"}, {}, "http://h:1"),
        ({"host": "http://h", "store_port": 1, "message_source_port": 2}, {}, "http://h:1"),
        ({}, {"RESONATE_HOST_STORE": "http://s"}, "http://s:8001"),
        ({}, {"RESONATE_HOST_STORE": "http://s", "RESONATE_PORT_STORE": "3"}, "http://s:3"),
        ({"store_port": 4}, {"RESONATE_HOST": "http://h"}, "http://h:4"),
    ],
)
def test_remote(
    options: dict[str, Any],
    environment: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mission C3, C4, C23: the arguments and variables of 0.6.7; ports as text or number."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    resonate = Resonate.remote(
        **options,
        auth=("ada", "secret"),
        dependencies=Dependencies(),
        group="workers",
        log_level=None,
        pid="one",
        registry=Registry(),
        ttl=10,
        workers=4,
    )
    assert url_of(resonate) == expected
    assert "secret" not in repr(resonate._core.store)


@pytest.mark.parametrize(
    "options",
    [
        {"host": 5},
        {"host": ""},
        {"store_port": "http"},
        {"store_port": 0},
        {"store_port": 70_000},
        {"message_source_port": 1.5},
        {"store_port": True},
        {"auth": "ada"},
        {"ttl": 0},
        {"nonsense": 1},
    ],
    ids=named,
)
def test_wrong_arguments_of_remote(options: dict[str, Any]) -> None:
    """It must show 5."""
    (name,) = options
    with pytest.raises((TypeError, ValueError), match=name):
        Resonate.remote(**options)


async def sent_by(resonate: Resonate) -> str:
    """The header with which the client shows who it is."""
    http: Any = resonate._core.store._http  # type: ignore[attr-defined]
    headers: dict[str, str] = http._headers(await http.token(), None)
    return headers.get("Authorization", "")


async def test_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mission C7, C8: basic and bearer, given or from the environment; a token wins."""
    url = "http://localhost:8001"
    assert await sent_by(Resonate(url=url)) == ""
    monkeypatch.setenv("RESONATE_USERNAME", "ada")
    monkeypatch.setenv("RESONATE_PASSWORD", "s3cret")
    basic = await sent_by(Resonate(url=url))
    assert b64decode(basic.removeprefix("Basic ")) == b"ada:s3cret"
    given = await sent_by(Resonate(url=url, auth=("bob", "s3cret")))
    assert b64decode(given.removeprefix("Basic ")) == b"bob:s3cret"
    both = Resonate(url=url, auth=("bob", "s3cret"), token="t0ken")
    assert await sent_by(both) == "Bearer t0ken"
    assert await sent_by(Resonate(url=url, token=lambda: "t0ken")) == "Bearer t0ken"
    monkeypatch.setenv("RESONATE_TOKEN", "fr0m env")
    assert await sent_by(Resonate(url=url)) == "Bearer fr0m env"
    assert await sent_by(Resonate.remote(token="t0ken")) == "Bearer t0ken"
    for resonate in (Resonate(url=url), both):
        text = repr(resonate._core.store) + repr(resonate)
        assert not any(secret in text for secret in ("s3cret", "t0ken", "fr0m env"))


def test_a_token_of_a_local_client_without_anything_served() -> None:
    """What to write instead is `serve=`, not `url=`, which `local()` has not got."""
    with pytest.raises(UsageError, match="give serve="):
        Resonate.local(token="s3cret")


def test_without_a_server_the_http_library_is_not_loaded() -> None:
    """It takes longer than all the rest: who names no server need not wait for it."""
    code = (
        "import sys\n"
        "from resonate_aio import Resonate\n"
        "Resonate(), Resonate.local(path='app.db')\n"
        "assert 'aiohttp' not in sys.modules\n"
        "Resonate(url='http://localhost:8001')\n"
        "assert 'aiohttp' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
