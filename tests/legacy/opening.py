"""Stores of legacy servers that are impatient, as tests are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from resonate_aio.clock import Clock
from resonate_aio.stores.http.session import HttpSession, Patience
from resonate_aio.stores.legacy import LegacyStore
from resonate_aio.stores.legacy.messages import Decode, poll_endpoints
from resonate_aio.transports.sse import SseMessages, SsePatience

MakeStore = Callable[..., Any]
QUICK = Patience(first_s=0.01, most_s=0.05, pace_s=0.0, answer_s=5.0)
QUICK_STREAM = SsePatience(first_s=0.01, most_s=0.05)
NEVER_AGAIN_S = 3600.0


def make_store(
    url: str,
    poll_url: str | None = None,
    *,
    ttl_s: float = 10.0,
    clock: Clock | None = None,
    again_s: float = NEVER_AGAIN_S,
    **session: Any,
) -> LegacyStore:
    http = HttpSession(url, patience=QUICK, **session)
    poll = None if poll_url is None else HttpSession(poll_url, patience=QUICK, **session)

    def messages(decode: Decode) -> SseMessages:
        return SseMessages(poll_endpoints(http, poll), decode, patience=QUICK_STREAM)

    return LegacyStore(http, messages, poll=poll, ttl_s=ttl_s, clock=clock, again_s=again_s)


@asynccontextmanager
async def opened(store: LegacyStore) -> AsyncIterator[LegacyStore]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()
