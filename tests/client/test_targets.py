"""Where an rpc goes, as far as one process can show it (mission table 1.9)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Self

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.testing import simulate


class Town:
    """Clients of one store, each answering with its name."""

    def __init__(self, *addresses: tuple[str, str]) -> None:
        self._store = MemoryStore()
        self.clients = {pid: self._client(group, pid) for group, pid in addresses}

    def _client(self, group: str, pid: str) -> Resonate:
        client = Resonate(store=self._store, group=group, pid=pid)

        @client.register
        async def who(ctx: Context) -> str:
            return pid

        return client

    async def __aenter__(self) -> Self:
        for client in self.clients.values():
            await client.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self.clients.values():
            await client.stop()


@pytest.mark.parametrize("target", ["workers", "poll://workers", "poll://any@workers"])
async def test_every_spelling_of_a_group(target: str) -> None:
    """Mission G1, G2, G3: all mean any process of the group `workers`."""
    async with Town(("default", "asks"), ("workers", "w1"), ("workers", "w2")) as town:
        ask = town.clients["asks"].options(target=target)
        async with asyncio.timeout(10):
            found = await asyncio.gather(*(ask.rpc(f"a{n}", "who") for n in range(8)))
        assert Counter(found) == {"w1": 4, "w2": 4}
        stored = await ask.promises.get("a0")
        assert stored.tags["resonate:target"] == "poll://any@workers"


async def test_without_a_target() -> None:
    """Mission G4, G6, S65: the group `default`, whoever asks."""
    async with Town(("shop", "asks"), ("default", "takes")) as town:
        assert await town.clients["asks"].rpc("a", "who").result(10) == "takes"


async def test_one_process_of_a_group() -> None:
    """Mission G5: `uni` is that one and no other, `any` prefers it."""
    async with Town(("default", "asks"), ("g", "one"), ("g", "two")) as town:
        ask = town.clients["asks"]
        for n in range(4):
            uni = ask.options(target="poll://uni@g/two")
            preferred = ask.options(target="poll://any@g/one")
            assert await uni.rpc(f"u{n}", "who").result(10) == "two"
            assert await preferred.rpc(f"p{n}", "who").result(10) == "one"
        await town.clients["one"].stop()
        again = ask.options(target="poll://any@g/one")
        assert await again.rpc("instead", "who").result(10) == "two"


async def test_addresses_of_other_schemes_are_kept_as_they_are() -> None:
    """Mission G7: an http address, which a server pushes to."""
    async with Resonate() as resonate:
        target = "https://example.com/push"
        await resonate.options(target=target).rpc("a", "who").created()
        assert (await resonate.promises.get("a")).tags["resonate:target"] == target


async def test_targets_of_ctx_calls() -> None:
    """Mission G1, G6: the same on `ctx.rpc` and its kin."""
    async with Town(("default", "asks"), ("w", "takes")) as town:
        client = town.clients["asks"]

        @client.register
        async def flow(ctx: Context) -> list[Any]:
            promise = await ctx.begin_rpc("who").options(target="w")
            detached = await ctx.detached("who").options(target="poll://any@w")
            return [await ctx.rpc("who").options(target="poll://w"), await promise, await detached]

        assert await client.run("a", flow).result(10) == ["takes"] * 3


@pytest.mark.parametrize("from_inside", [False, True], ids=["client", "ctx"])
def test_a_call_that_nobody_can_take_is_named_once(
    caplog: pytest.LogCaptureFixture, from_inside: bool
) -> None:
    """Without a server nobody else will: said after a while, in explain, and at a timeout."""

    async def main(resonate: Resonate) -> str:
        @resonate.register
        async def flow(ctx: Context) -> None:
            await ctx.rpc("ship", 1).options(target="warehouse")

        ask = resonate.options(target="warehouse")
        handles = [
            resonate.begin_run(f"a{n}", flow) if from_inside else ask.rpc(f"a{n}", "ship", 1)
            for n in range(5)
        ]
        asked = "a0.1" if from_inside else "a0"
        await asyncio.sleep(1)
        assert not caplog.records, "whoever takes it may be about to start"
        await asyncio.sleep(1000)
        with pytest.raises(TimeoutError, match="poll://any@warehouse has taken it"):
            await resonate.get(asked).result(timeout=1)
        tree = await handles[0].explain()
        for handle in handles:
            await handle.cancel()
        for n in range(5 if from_inside else 0):
            await resonate.promises.cancel(f"a{n}.1")
        return tree

    caplog.set_level("WARNING", "resonate_aio")
    tree = simulate(main)
    assert "waits for a worker at poll://any@warehouse" in tree
    (said,) = [record.getMessage() for record in caplog.records]
    assert "'ship' at poll://any@warehouse" in said
    assert "serve" in said


def test_a_call_whose_taker_starts_late_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main(resonate: Resonate) -> str:
        store = resonate._core.store
        handle = resonate.options(target="w").rpc("a", "who")
        await asyncio.sleep(3)
        async with Resonate(store=store, group="w", clock=resonate._core.clock) as late:

            @late.register
            async def who(ctx: Context) -> str:
                return "late"

            return str(await handle)

    caplog.set_level("WARNING", "resonate_aio")
    assert simulate(main) == "late"
    assert not caplog.records
