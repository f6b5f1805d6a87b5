"""Own encoders: on client calls and ctx calls, awaited or not (mission K9)."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.client.lives import Lives, utc, where

from resonate_aio import Context, Resonate
from resonate_aio.encoders import Base64Encoder, CombinedEncoder, Encoder, JsonEncoder
from resonate_aio.errors import ResonateError, ResonateStoreError, ValueCodecError
from resonate_aio.protocol.values import encode
from resonate_aio.runtime.settings import Settings
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.testing import crash_everywhere

Make = Callable[..., Resonate]
SECRET = "the secret word"


class Hidden:
    """Stands for encryption: what it writes shows nothing, and is no JSON."""

    name = "hidden"

    def encode(self, value: Any, /) -> str:
        return "~" + base64.b85encode(encode(value).encode()).decode()

    def decode(self, data: str | None, /) -> Any:
        assert data is not None
        assert data[0] == "~"
        return json.loads(base64.b85decode(data[1:]))


class ClaimCheck:
    """Stands for a store of big values elsewhere: both ways are awaited."""

    name = "claim check"

    def __init__(self, shelf: dict[str, str] | None = None) -> None:
        self.shelf = {} if shelf is None else shelf
        self.fails = 0

    async def encode(self, value: Any, /) -> str:
        await asyncio.sleep(0.001)
        self._stumble()
        text = encode(value)
        number = f"claim-{sha256(text.encode()).hexdigest()[:16]}"
        self.shelf[number] = text
        return number

    async def decode(self, data: str | None, /) -> Any:
        await asyncio.sleep(0.001)
        self._stumble()
        return json.loads(self.shelf[data or ""])

    def _stumble(self) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the shelf cannot be reached")


class Order(msgspec.Struct):
    number: int
    word: str


async def stored_text(resonate: Resonate) -> str:
    """Everything that is stored, as one text."""
    found = [p async for p in resonate.promises.search()]
    found += [p for root in list(found) for p in await resonate._core.store.load(root.id)]
    return "\n".join(map(repr, found))


@pytest.mark.parametrize("encoder", [Hidden(), ClaimCheck()], ids=lambda e: e.name)
async def test_arguments_and_results_of_client_calls(make: Make, encoder: Encoder) -> None:
    """Mission K9: rebuilt by annotation, nothing in clear."""
    async with make() as resonate:

        @resonate.register
        async def pack(ctx: Context, order: Order, *, extra: str = "") -> Order:
            assert type(order) is Order
            return Order(order.number + 1, order.word + extra)

        hidden = resonate.options(encoder=encoder)
        order, expected = Order(1, SECRET), Order(2, f"{SECRET}!")
        assert await hidden.run("a", pack, order, extra="!") == expected
        assert await hidden.rpc("b", pack, order, extra="!") == expected
        assert await hidden.get("a", returns=Order) == expected
        assert await resonate.get("a", returns=Order) == expected, "found by its name"
        assert await hidden.run("a", pack, order, extra="!") == expected
        text = await stored_text(resonate)
        assert "pack" in text
        assert SECRET not in text


@pytest.mark.parametrize("encoder", [Hidden(), ClaimCheck()], ids=lambda e: e.name)
async def test_errors_are_hidden_too(make: Make, encoder: Encoder) -> None:
    async with make() as resonate:

        @resonate.register
        async def fails(ctx: Context) -> None:
            raise LookupError(SECRET)

        with pytest.raises(LookupError, match=SECRET):
            await resonate.options(encoder=encoder).run("a", fails)
        assert SECRET not in await stored_text(resonate)


@pytest.mark.parametrize("encoder", [Hidden(), ClaimCheck()], ids=lambda e: e.name)
async def test_calls_of_a_body(make: Make, encoder: Any) -> None:
    """Mission X11, X12: the option on run, begin_run, rpc, begin_rpc and detached."""

    async def step(ctx: Context, order: Order) -> Order:
        assert type(order) is Order
        return Order(order.number + 1, order.word)

    def fails(ctx: Context, order: Order) -> None:
        raise LookupError(order.word)

    async with make() as resonate:
        resonate.register(step)

        @resonate.register
        async def flow(ctx: Context) -> list[int]:
            order = Order(1, SECRET)
            one = await ctx.run(step, order).options(encoder=encoder)
            two = await (await ctx.begin_run(step, order).options(encoder=encoder))
            three = await ctx.rpc(step, order).options(encoder=encoder)
            four = await (await ctx.begin_rpc(step, order).options(encoder=encoder))
            five, six = await asyncio.gather(
                ctx.rpc(step, order).options(encoder=encoder),
                ctx.run(step, order).options(encoder=encoder),
            )
            await ctx.detached("step", order).options(encoder=encoder, id="apart")
            with pytest.raises(LookupError, match=SECRET):
                await ctx.run(fails, order).options(encoder=encoder, retry_policy=never())
            return [o.number for o in (one, two, three, four, five, six)]

        assert await resonate.run("a", flow) == [2] * 6
        assert await resonate.get("apart", returns=Order) == Order(2, SECRET)
        assert SECRET not in await stored_text(resonate)


def never() -> Any:
    from resonate_aio.retry_policies import Never

    return Never()


async def test_generators_take_encoders_that_are_not_awaited(make: Make) -> None:
    """Mission X25: the dialect of 0.6.7, whose encoders are ordinary ones."""

    async def step(ctx: Context, word: str) -> str:
        return word

    async with make() as resonate:
        resonate.register(step)

        @resonate.register
        def flow(ctx: Context) -> Any:
            one = yield ctx.run(step, SECRET).options(encoder=ClaimCheck())
            two = yield ctx.rpc(step, SECRET).options(encoder=Hidden())
            try:
                yield ctx.rpc(step, SECRET).options(encoder=ClaimCheck())
            except TypeError as error:
                return [len(one), len(two), "async def" in str(error)]

        assert await resonate.run("a", flow) == [len(SECRET), len(SECRET), True]
        assert SECRET not in await stored_text(resonate)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_an_execution_goes_on_with_its_encoder(kind: str, tmp_path: Path) -> None:
    """Mission K9, law 6: after a kill the worker finds the encoder by its name."""
    shelf: dict[str, str] = {}
    runs: Counter[str] = Counter()

    def client(resonate: Resonate) -> tuple[Resonate, Any]:
        async def step(ctx: Context, word: str) -> str:
            runs["step"] += 1
            return word.upper()

        @resonate.register
        async def flow(ctx: Context, order: Order) -> Order:
            runs["flow"] += 1
            word = await ctx.run(step, order.word).options(encoder=ClaimCheck(shelf))
            await ctx.sleep(10)
            return Order(order.number, word)

        return resonate.options(encoder=ClaimCheck(shelf)), flow

    async def begins(resonate: Resonate) -> None:
        hidden, flow = client(resonate)
        await hidden.begin_run("a", flow, Order(7, SECRET)).created()
        await asyncio.sleep(5)

    async def ends(resonate: Resonate) -> Any:
        client(resonate)
        await resonate.start()
        return await resonate.get("a", returns=Order)

    lives = Lives(where(kind, tmp_path), utc("2024-05-01 12:00"))
    lives.life(begins, killed=True)
    assert lives.life(ends) == Order(7, SECRET.upper())
    assert runs == {"flow": 2, "step": 1}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_without_its_encoder_an_execution_waits(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """S42: it is put aside with one line that says what to do, and goes on when it is there."""
    caplog.set_level(logging.ERROR)

    async def echo(ctx: Context, word: str) -> str:
        await ctx.sleep(10)
        return word

    async def begins(resonate: Resonate) -> None:
        resonate.register(echo)
        await resonate.options(encoder=Hidden()).begin_run("a", echo, SECRET).created()

    async def does_not_know(resonate: Resonate) -> bool:
        resonate.register(echo)
        await resonate.start()
        await asyncio.sleep(60)
        return resonate.get("a").done()

    async def knows(resonate: Resonate) -> Any:
        resonate.register(echo)
        return await resonate.options(encoder=Hidden()).get("a")

    lives = Lives(where(kind, tmp_path), utc("2024-05-01 12:00"))
    lives.life(begins)
    assert lives.life(does_not_know) is False
    assert len(caplog.records) == 1
    assert "'hidden'" in caplog.text
    assert "options(encoder=" in caplog.text
    assert lives.life(knows) == SECRET


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_encoded_calls_survive_a_crash_at_every_point(store: Any) -> None:
    """Mission K9, laws 3 and 6."""
    shelf: dict[str, str] = {}

    async def step(ctx: Context, order: Order) -> Order:
        return Order(order.number + 1, order.word)

    async def flow(ctx: Context, order: Order) -> int:
        order = await ctx.run(step, order).options(encoder=Hidden())
        both = await asyncio.gather(
            ctx.rpc(step, order).options(encoder=ClaimCheck(shelf)),
            ctx.run(step, order).options(encoder=ClaimCheck(shelf)),
        )
        await ctx.sleep(1)
        return sum(found.number for found in both)

    async def program(resonate: Resonate) -> int:
        resonate.register(step)
        resonate.register(flow)
        hidden = resonate.options(encoder=ClaimCheck(shelf))
        resonate.options(encoder=Hidden())
        return await hidden.run("a", flow, Order(1, SECRET))

    assert crash_everywhere(program, store=store).result == 6


async def test_trouble_of_an_encoder_is_no_outcome() -> None:
    """Law 8: the execution is tried again; its promise stays pending."""
    encoder = ClaimCheck()
    async with Resonate(settings=Settings(poison_first_s=0.01)) as resonate:

        @resonate.register
        async def work(ctx: Context) -> str:
            encoder.fails = max(0, 1 - len(failed))
            return SECRET

        failed: list[BaseException] = []
        handle = resonate.options(encoder=encoder).begin_run("a", work)
        try:
            await handle
        except ValueCodecError as error:
            failed.append(error)
        assert "'claim check' failed to encode" in str(failed[0])
        assert "cannot be reached" in str(failed[0])
        assert (await resonate.promises.get("a")).state == "pending"
        assert await resonate.get("a").result(10) == SECRET


async def test_a_value_that_an_encoder_refuses_is_the_steps_failure() -> None:
    """S24: recorded, never retried."""

    class Picky:
        def encode(self, value: Any, /) -> str:
            if not isinstance(value, dict):
                raise TypeError(f"no {value!r}, please")
            return encode(value)

        def decode(self, data: str | None, /) -> Any:
            return json.loads(data or "null")

    runs: list[str] = []

    async def step(ctx: Context) -> int:
        runs.append(ctx.id)
        return 5

    async with Resonate() as resonate:

        @resonate.register
        async def flow(ctx: Context) -> str:
            with pytest.raises(ValueCodecError, match="no 5, please"):
                await ctx.run(step).options(encoder=Picky())
            return "went on"

        assert await resonate.run("a", flow) == "went on"
        assert runs == ["a.1"]


async def test_what_decodes_to_more_than_json_is_what_it_is() -> None:
    """Mission K9: values that only the encoder knows."""

    class Complex:
        def encode(self, value: Any, /) -> str:
            if isinstance(value, dict):
                return encode({key: repr(item) for key, item in value.items()})
            return repr(value)

        def decode(self, data: str | None, /) -> Any:
            text = data or ""
            if not text.startswith("{"):
                return complex(text)
            args = json.loads(text)["args"].strip("(),").split("),")
            return {"args": [complex(part.strip("() ")) for part in args], "kwargs": {}}

    async def conjugate(ctx: Context, number: complex) -> complex:
        return number.conjugate()

    async with Resonate() as resonate:
        resonate.register(conjugate)

        @resonate.register
        async def flow(ctx: Context) -> bool:
            number = await ctx.run(conjugate, 1 + 2j).options(encoder=Complex())
            return number == 1 - 2j

        assert await resonate.run("a", flow)
        assert await resonate.options(encoder=Complex()).run("b", conjugate, 3 + 1j) == 3 - 1j


async def test_the_key_of_a_call_still_counts() -> None:
    """S52: also with an encoder, which may write the same arguments in another way each time."""
    encoder = ClaimCheck()
    async with Resonate() as resonate:

        @resonate.register
        async def echo(ctx: Context, word: str) -> str:
            return word

        hidden = resonate.options(encoder=encoder)
        assert await hidden.run("a", echo, SECRET) == await hidden.run("a", echo, SECRET) == SECRET
        with pytest.raises(ResonateStoreError):
            await hidden.options(idempotency_key="k").run("a", echo, SECRET)


def test_encoders_of_the_library() -> None:
    """Mission K9: what 0.6.7 has of them that is safe to have."""
    both = CombinedEncoder(JsonEncoder(), Base64Encoder())
    text = both.encode({"a": [1, None]})
    assert base64.b64decode(text or "") == b'{"a":[1,null]}'
    assert both.decode(text) == {"a": [1, None]}
    assert both.name == "JsonEncoder+Base64Encoder"
    assert CombinedEncoder(JsonEncoder(), Base64Encoder(), name="x").name == "x"
    assert Base64Encoder().encode(None) is None
    with pytest.raises(ValueError, match=r"base64|padding|Base64"):
        Base64Encoder().decode("!")


@pytest.mark.parametrize("wrong", [5, "base64", JsonEncoder, object()])
def test_what_is_no_encoder(wrong: Any) -> None:
    """It must show 5."""
    with pytest.raises(TypeError, match="encode and decode"):
        Resonate().options(encoder=wrong)


async def test_several_clients_in_one_process() -> None:
    """Mission P6: each with its own store, its own encoders and functions."""
    one, two = Resonate(store=MemoryStore()), Resonate(store=MemoryStore())

    @one.register(name="f")
    async def first(ctx: Context) -> int:
        return 1

    @two.register(name="f")
    async def second(ctx: Context) -> int:
        return 2

    async with one, two:
        assert [await one.run("a", "f"), await two.run("a", "f")] == [1, 2]


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_an_encoder_that_exits_or_cancels_ends_nothing_else(
    raised: type[BaseException],
) -> None:
    """Its trouble is named, the process and the others go on (law 14)."""

    class Wild:
        async def encode(self, value: object) -> str:
            raise raised

        async def decode(self, data: str | None) -> object:
            raise raised

    async def one(ctx: Context, n: int = 1) -> int:
        return n

    async def flow(ctx: Context) -> int:
        return int(await ctx.run(one).options(encoder=Wild()))

    async with Resonate() as resonate:
        resonate.register(flow)
        resonate.register(one)
        async with asyncio.timeout(10):
            with pytest.raises(ResonateError, match=raised.__name__):
                await resonate.run("wild", flow)
            assert await resonate.run("good", one, 7) == 7
