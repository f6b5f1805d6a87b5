"""Durable async/await for Python, native to asyncio.

`await ctx.run(step)` is checkpointed, `await ctx.rpc("f")` runs in another process,
`await ctx.sleep(days)` costs nothing, and after `kill -9` the program goes on where it was.

What a program needs every day is here; retry policies, encoders, the aiohttp kit and the
helpers for tests are modules of their own.
"""

from __future__ import annotations

from .client.context import Context
from .client.dependencies import Dependencies
from .client.function import Function
from .client.handle import Handle
from .client.registry import Registry
from .client.resonate import Resonate
from .errors import (
    ApplicationError,
    ContextMisuseError,
    FunctionNotFoundError,
    InternalError,
    NonDeterminismError,
    OutcomeError,
    ResonateCanceledError,
    ResonateError,
    ResonateShutdownError,
    ResonateStoreError,
    ResonateTimedoutError,
    StoreOwnedError,
    StoreSchemaError,
    UnreadableRecordError,
    UsageError,
    ValueCodecError,
)
from .runtime.awaitables import DurablePromise as Promise
from .runtime.awaitables import Yieldable

__version__ = "0.1.0"

__all__ = [
    "ApplicationError",
    "Context",
    "ContextMisuseError",
    "Dependencies",
    "Function",
    "FunctionNotFoundError",
    "Handle",
    "InternalError",
    "NonDeterminismError",
    "OutcomeError",
    "Promise",
    "Registry",
    "Resonate",
    "ResonateCanceledError",
    "ResonateError",
    "ResonateShutdownError",
    "ResonateStoreError",
    "ResonateTimedoutError",
    "StoreOwnedError",
    "StoreSchemaError",
    "UnreadableRecordError",
    "UsageError",
    "ValueCodecError",
    "Yieldable",
]
