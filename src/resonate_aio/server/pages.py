"""Answers of many records, kept to a size: a page may end early, a preload is only a cache.

A search lists up to a thousand records, each of which may be as large as a request. What is
left out of a page is on the next one; what is left out of a preload is asked for (§7).
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from ..protocol.records import Promise, Schedule, Value
from ..protocol.requests import Reply

ANSWER_BYTES: Final = 8 * 1024 * 1024
"""About how large an answer of many records becomes; a single record may be larger."""

R = TypeVar("R", Promise, Schedule)


def kept_to_size(reply: Reply, limit_bytes: int = ANSWER_BYTES) -> Reply:
    """The reply, or one with fewer records and the cursor that goes on behind them."""
    if reply.promises:
        promises = _first(reply.promises, limit_bytes)
        if len(promises) < len(reply.promises):
            return msgspec.structs.replace(reply, promises=promises, cursor=promises[-1].id)
    if reply.schedules:
        schedules = _first(reply.schedules, limit_bytes)
        if len(schedules) < len(reply.schedules):
            return msgspec.structs.replace(reply, schedules=schedules, cursor=schedules[-1].id)
    if reply.preload:
        preload = _first(reply.preload, limit_bytes)
        if len(preload) < len(reply.preload):
            return msgspec.structs.replace(reply, preload=preload)
    return reply


def _first(records: tuple[R, ...], limit_bytes: int) -> tuple[R, ...]:
    """As many records as fit, and at least one."""
    size = 0
    for place, record in enumerate(records):
        size += _size(record)
        if size > limit_bytes and place:
            return records[:place]
    return records


def _size(record: Promise | Schedule) -> int:
    """About how many bytes a record makes on the wire."""
    if isinstance(record, Promise):
        values: tuple[Value, ...] = (record.param, record.value)
        tags = record.tags
    else:
        values = (record.promise_param,)
        tags = record.promise_tags
    return 256 + len(record.id) + _mapping(tags) + sum(map(_value, values))


def _value(value: Value) -> int:
    data = 0 if value.data is None else len(value.data) * 4 // 3
    return data + _mapping(value.headers)


def _mapping(mapping: dict[str, str] | None) -> int:
    return sum(len(name) + len(text) + 8 for name, text in mapping.items()) if mapping else 0
