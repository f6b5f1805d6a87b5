"""Replies that come later, told to those who did not wait in a task of their own."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from ..errors import ResonateStoreError
from ..protocol.requests import Reply
from .base import Answered


def tell(task: asyncio.Future[Reply], answered: Answered, context: Any) -> None:
    """Call `answered` with what the task gives, or with why it gives nothing."""
    task.add_done_callback(partial(_tell, answered, context))


def _tell(answered: Answered, context: Any, task: asyncio.Future[Reply]) -> None:
    if task.cancelled():
        answered(context, ResonateStoreError("the store was closed before it was answered"))
    else:
        answered(context, task.exception() or task.result())


def resolve(future: asyncio.Future[Any], answer: Any) -> None:
    """Give an answer, or the error that came instead, to whoever awaits the future."""
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
