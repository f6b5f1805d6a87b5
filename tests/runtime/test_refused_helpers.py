"""What is refused under `asyncio.as_completed` is said once, by the error itself (S3)."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from resonate_aio import Context, Resonate
from resonate_aio.errors import ContextMisuseError

pytestmark = pytest.mark.law


async def leaf(ctx: Context, n: int) -> int:
    return n


async def unseen_of(helper_of: Any) -> list[str]:
    """A function that awaits bare helpers in the order of their ends: what asyncio says of it."""
    unseen: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: unseen.append(context["message"])
    )

    async def flow(ctx: Context) -> list[int]:
        helpers = [helper_of(ctx, n) for n in range(5)]
        return [await done for done in asyncio.as_completed(helpers)]

    async with Resonate() as resonate:
        resonate.register(flow)
        with pytest.raises((ContextMisuseError, ValueError)):
            await resonate.run("flow", flow)
    await asyncio.sleep(0.01)
    gc.collect()
    return unseen


@pytest.mark.parametrize("first_s", [0, 0.01], ids=["at once", "later"])
async def test_nothing_is_said_of_the_others(first_s: float) -> None:
    async def helper(ctx: Context, n: int) -> int:
        if first_s:
            await asyncio.sleep(first_s)
        return await ctx.run(leaf, n)

    assert await unseen_of(helper) == []


async def test_a_helpers_own_error_is_still_asyncios_to_tell() -> None:
    async def helper(ctx: Context, n: int) -> int:
        raise ValueError(n)

    said = await unseen_of(helper)
    assert len([text for text in said if "never retrieved" in text]) == 4
