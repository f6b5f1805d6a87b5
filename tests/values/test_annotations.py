"""Annotations as functions have them: text, names that only type checkers see, closures (S29)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from resonate_aio import Resonate
from resonate_aio.errors import ValueCodecError
from resonate_aio.runtime.functions import Callee
from resonate_aio.testing import crash_everywhere

if TYPE_CHECKING:
    from pathlib import Path as OnlyForTypeCheckers

    from resonate_aio import Context

DAY = date(2024, 2, 29)


@dataclass
class Bill:
    due: date


async def pay(ctx: Context, bill: Bill, *more: date, at: date | None = None, **other: Bill) -> Bill:
    return bill


def pays(ctx: Context, bill: Bill) -> Generator[Any, Any, Bill]:
    yield
    return bill


class Office:
    def pay(self, ctx: Context, bill: Bill) -> Bill:
        return bill

    async def __call__(self, ctx: Context, bill: Bill) -> Bill:
        return bill


def half_known(ctx: Context, bill: Bill, path: OnlyForTypeCheckers) -> Bill:
    return bill


@functools.wraps(pay)
async def wrapped(*args: Any, **kwargs: Any) -> Bill:
    return await pay(*args, **kwargs)


STORED: dict[str, Any] = {"due": "2024-02-29"}
BILL = Bill(DAY)


@pytest.mark.parametrize(
    "function",
    [pay, pays, Office().pay, Office(), functools.partial(pay), wrapped],
    ids=["async", "generator", "method", "callable", "partial", "wrapped"],
)
def test_a_ctx_that_only_type_checkers_know_spoils_no_other_annotation(
    function: Callable[..., Any],
) -> None:
    callee = Callee(function)
    assert callee.rebuild([STORED], {}) == ([BILL], {})
    assert callee.result.rebuild(STORED) == BILL


def test_every_kind_of_parameter_is_rebuilt() -> None:
    args, kwargs = Callee(pay).rebuild(
        [STORED, "2024-02-29", "2024-02-29"], {"at": "2024-02-29", "extra": STORED}
    )
    assert args == [BILL, DAY, DAY]
    assert kwargs == {"at": DAY, "extra": BILL}


def test_names_of_the_function_around_are_found_where_they_are_used() -> None:
    @dataclass
    class Local:
        value: int

    def uses(ctx: Context, local: Local) -> Local:
        return Local(local.value)

    callee = Callee(uses)
    assert callee.rebuild([{"value": 1}], {}) == ([Local(1)], {})
    assert callee.result.rebuild({"value": 1}) == Local(1)


def test_what_cannot_be_resolved_stays_plain_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "resonate_aio")
    for _ in range(3):
        callee = Callee(half_known)
    assert callee.rebuild([STORED, "/a"], {}) == ([BILL, "/a"], {})
    (said,) = [record.getMessage() for record in caplog.records]
    assert "half_known" in said
    assert "path: OnlyForTypeCheckers" in said
    assert "Context" not in said


def test_arguments_are_checked_where_the_call_is_made() -> None:
    """What would come back as something else is refused before anything is stored (S24)."""
    callee = Callee(pay)
    assert callee.invocation((BILL,), {}, 1)
    with pytest.raises(Exception, match="does not fit Bill"):
        callee.invocation((7,), {}, 1)
    with pytest.raises(Exception, match="does not fit Bill"):
        callee.invocation((BILL,), {"extra": "text"}, 1)
    assert callee.invocation((7,), {}, 2), "another version may take something else"


# What an annotation is not (docs/values.md): validation.


async def number_of(ctx: Context, number: int) -> int:
    return number


async def numbers_of(ctx: Context, numbers: list[int]) -> dict[str, float]:
    return {"all": numbers}  # type: ignore[dict-item]  # this is what is tested


async def takes_words(ctx: Context) -> Any:
    word: Any = "abc"
    return [await ctx.run(number_of, word), await ctx.run(numbers_of, [word])]


async def day_of(ctx: Context) -> date:
    return "abc"  # type: ignore[return-value]  # this is what is tested


def test_plain_data_is_not_checked_the_first_time_or_later() -> None:
    """Law 3: whatever is let through is let through on every replay, too."""

    async def program(resonate: Resonate) -> Any:
        for function in (takes_words, day_of):
            resonate.register(function)
        with pytest.raises(ValueCodecError, match="does not fit date"):
            await resonate.run("day", day_of)
        return await resonate.run("words", takes_words)

    assert crash_everywhere(program).result == ["abc", {"all": ["abc"]}]
