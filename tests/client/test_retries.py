"""Retry policies as calls use them (mission table 1.8); test_retry_policies has the figures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.client.lives import Lives, utc

import resonate_aio.retry_policies
from resonate_aio import Context, Resonate
from resonate_aio.retry_policies import Constant, Exponential, Linear, Never, RetryPolicy


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Exponential(max_retries=3), [0, 2, 6, 14]),
        (Constant(delay=3, max_retries=2), [0, 3, 6]),
        (Linear(delay=1, max_retries=3), [0, 1, 3, 6]),
        (Never(), [0]),
    ],
)
def test_when_a_failed_step_is_tried_again(policy: RetryPolicy, expected: list[float]) -> None:
    """Mission T2, T3, T4, T5, T6: on virtual time, from the first attempt on."""
    at: list[float] = []

    async def step(ctx: Context) -> None:
        at.append(asyncio.get_running_loop().time())
        raise ConnectionError

    async def flow(ctx: Context) -> None:
        await ctx.run(step).options(retry_policy=policy)

    async def main(resonate: Resonate) -> None:
        resonate.register(flow)
        with pytest.raises(ConnectionError):
            await resonate.run("a", flow)

    Lives(None, utc("2024-05-01 12:00")).life(main)
    assert [round(instant - at[0], 1) for instant in at] == expected


def test_no_retry_passes_the_deadline() -> None:
    """Mission T7, law 11: retries end where the next delay would pass the promise's deadline."""
    at: list[float] = []

    async def step(ctx: Context) -> None:
        at.append(asyncio.get_running_loop().time())
        raise ConnectionError

    async def main(resonate: Resonate) -> float:
        resonate.register(step)
        limited = resonate.options(timeout=10, retry_policy=Constant(delay=3))
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionError):
            await limited.run("a", step)
        return asyncio.get_running_loop().time() - begun

    took_s = Lives(None, utc("2024-05-01 12:00")).life(main)
    assert [round(instant - at[0]) for instant in at] == [0, 3, 6, 9]
    assert took_s < 10


def test_the_names() -> None:
    """Mission T1, T6."""
    module: Any = resonate_aio.retry_policies
    assert set(module.__all__) == {"Constant", "Exponential", "Linear", "Never", "RetryPolicy"}
