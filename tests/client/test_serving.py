"""`Resonate.local(serve=...)`: a process that owns its file, and workers in other processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ResonateError, UsageError


@pytest.fixture(autouse=True)
def no_server_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith("RESONATE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("token", [None, "a long enough secret"])
async def test_workers_elsewhere(kind: str, token: str | None, tmp_path: Path) -> None:
    """Mission P21, C5, C8: the owner starts work that another client takes, and the other way."""
    path = None if kind == "memory" else tmp_path / "app.db"
    owner = Resonate.local(path=path, serve="127.0.0.1:0", token=token)

    @owner.register
    async def here(ctx: Context, n: int) -> int:
        return n + 1

    async with owner:
        url = owner.serving_at
        assert url is not None
        worker = Resonate(url=url, token=token, group="away")

        @worker.register
        async def there(ctx: Context, n: int) -> int:
            return 10 * await ctx.rpc("here", n, returns=int)

        async with worker, asyncio.timeout(20):
            assert await owner.options(target="away").rpc("a", "there", 1) == 20
            assert await worker.rpc("b", "here", 2) == 3
            assert await worker.get("a") == 20
    assert owner.serving_at is not None
    async with owner:
        assert await owner.get("a") == 20, "stopped and started again"


async def test_no_server_by_default() -> None:
    resonate = Resonate.local()
    assert resonate.serving_at is None


async def test_an_address_that_is_not_of_this_machine() -> None:
    resonate = Resonate.local(serve="203.0.113.9:8001", token="a secret of some length")
    with pytest.raises(UsageError, match=r"cannot listen on 203.0.113.9:8001: .* no such address"):
        await resonate.start()


async def test_an_address_that_is_taken() -> None:
    """The client does not start, and leaves nothing behind."""
    first = Resonate.local(serve="127.0.0.1:0")
    async with first:
        address = (first.serving_at or "").removeprefix("http://")
        second = Resonate.local(serve=address)
        with pytest.raises(UsageError, match=f"listen on {address}: the port is already in use"):
            await second.start()
        await second.stop()
    async with second:
        assert second.serving_at == f"http://{address}"


@pytest.mark.parametrize(
    "serve", ["", "localhost", ":8001", "localhost:port", "localhost:99999", 8001, "a b:\0", "h:-1"]
)
def test_wrong_addresses(serve: Any) -> None:
    """It must show 5."""
    with pytest.raises((TypeError, ValueError, ResonateError), match="serve"):
        Resonate.local(serve=serve)


def test_other_addresses_need_a_token() -> None:
    """Law 17: closed by default, said when the client is made."""
    with pytest.raises(UsageError, match="token"):
        Resonate.local(serve="0.0.0.0:8001")
    Resonate.local(serve="0.0.0.0:8001", token="a long enough secret")
    Resonate.local(serve="[::1]:8001")
    with pytest.raises(UsageError, match="token="):
        Resonate.local(token="a long enough secret")
