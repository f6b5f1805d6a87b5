"""Models come back equal, or are refused without a word of what they hold (S24, law 3)."""

import asyncio
import itertools
import logging
import threading
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pydantic
import pytest
from tests.values.models import (
    LOGIN,
    Choosing,
    Derived,
    Excluding,
    ExcludingAll,
    InClear,
    Login,
    LongSecret,
    Private,
)

from resonate_aio import Context, Resonate
from resonate_aio.errors import ValueCodecError
from resonate_aio.protocol.failures import describe
from resonate_aio.protocol.values import Shape, decode, encode
from resonate_aio.retry_policies import Never

HIDDEN = 7_401_926_385


def again(model: Any) -> Any:
    """The model as its reader gets it."""
    return Shape(type(model)).rebuild(decode(encode(model)))


class LeakError(Exception):
    def __init__(self, *held: Any) -> None:
        super().__init__("held")
        self.held = held


async def read(ctx: Context, login: Login) -> str:
    return login.password.get_secret_value()


async def give(ctx: Context) -> Any:
    return LOGIN


async def leak(ctx: Context) -> None:
    raise LeakError(LOGIN, [Excluding(a=1, hidden=HIDDEN)])


async def flow(ctx: Context) -> list[str]:
    said = []
    for call in (ctx.run(read, LOGIN), ctx.run(give), ctx.run(leak)):
        try:
            await call.options(retry_policy=Never())
        except (ValueCodecError, LeakError) as error:
            said.append(str(error))
    return said


def test_a_secret_is_in_no_file_message_or_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "resonate_aio")

    async def main() -> list[str]:
        async with Resonate.local(path=tmp_path / "app.db") as resonate:
            for function in (flow, read, give, leak):
                resonate.register(function)
            with pytest.raises(ValueCodecError, match=r"Login\.password is a SecretStr"):
                await resonate.run("top", read, LOGIN)
            said = await resonate.run("flow", flow)
            # What is kept is looked at before the file is closed, and after.
            assert not found_in(tmp_path)
            return said

    argument, result, error = asyncio.run(main())
    assert "Login.password is a SecretStr, and secrets are not stored" in argument
    assert "Login.password is a SecretStr, and secrets are not stored" in result
    assert error == "held"
    assert not found_in(tmp_path)
    assert not any(word in caplog.text for word in ("hunter2", str(HIDDEN)))


def found_in(folder: Path) -> list[str]:
    files = [path for path in folder.iterdir() if path.is_file()]
    assert files
    return [
        path.name
        for path in files
        for word in (b"hunter2", str(HIDDEN).encode())
        if word in path.read_bytes()
    ]


def test_the_attributes_of_errors_show_what_models_dump_to() -> None:
    """They are plain data (S51); a `repr` would show what a model does not write."""
    held = describe(LeakError(LOGIN, [Excluding(a=1, hidden=HIDDEN)]))["attributes"]["held"]
    assert held == [{"user": "u", "password": "**********"}, [{"a": 1}]]


def test_a_refusal_does_not_show_what_it_refuses() -> None:
    secret = pydantic.SecretBytes(b"hunter2 hunter2")
    for model in (LOGIN, LongSecret(key=secret), ExcludingAll(hidden=HIDDEN)):
        with pytest.raises(ValueCodecError) as raised:
            encode(model)
        assert "hunter2" not in str(raised.value)
        assert str(HIDDEN) not in str(raised.value)


def test_a_secret_that_its_user_writes_in_clear_is_written() -> None:
    model = InClear(password=pydantic.SecretStr("p"))
    assert encode(model) == '{"password":"p"}'
    assert again(model) == model


def test_what_a_default_makes_anew_is_no_loss() -> None:
    """A lock has no value that could be another one; an attribute that is derived is the same."""
    assert isinstance(again(Private())._lock, type(threading.Lock()))
    assert again(Derived(a=2))._twice == 4


def test_a_default_that_is_another_each_time_is_refused() -> None:
    numbers = itertools.count()

    class Numbered(pydantic.BaseModel):
        _number: int = pydantic.PrivateAttr(default_factory=lambda: next(numbers))

    with pytest.raises(ValueCodecError, match=r"Numbered\._number is a private attribute"):
        encode(Numbered())


def test_defaults_that_pydantic_did_not_check_are_kept_by_value() -> None:
    made = again(Choosing())
    assert (made.ratio, type(made.ratio)) == (1.0, float)
    assert (made.price, type(made.price)) == (0, Decimal)


class Opaque:
    """No equality of its own: its attributes are what it holds."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.me = self


class Holds(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    opaque: Opaque

    @pydantic.field_validator("opaque", mode="before")
    @classmethod
    def made(cls, data: Any) -> Any:
        return Opaque(min(data, 5)) if isinstance(data, int) else data

    @pydantic.field_serializer("opaque")
    def number(self, opaque: Opaque) -> int:
        return opaque.number


def test_classes_without_equality_are_compared_by_what_they_hold() -> None:
    assert again(Holds(opaque=Opaque(5))).opaque.number == 5
    with pytest.raises(ValueCodecError, match=r"Holds\.opaque|Opaque\.number"):
        encode(Holds(opaque=Opaque(6)))


class Open(pydantic.BaseModel, extra="allow"):
    a: int = 1


def test_fields_that_are_not_declared_are_plain_data() -> None:
    model = Open.model_validate({"a": 1, "b": {"c": [2.5]}})
    assert again(model) == model
    with pytest.raises(ValueCodecError, match=r"Open\.day would come back as str, not date"):
        encode(Open.model_validate({"day": date(2024, 1, 1)}))


class Meeting(pydantic.BaseModel):
    at: datetime
    inner: dict[str, "Meeting"] = {}


def test_a_moment_keeps_its_offset_in_the_hour_that_comes_twice() -> None:
    """Python finds no two moments of that hour equal across time zones."""
    berlin = ZoneInfo("Europe/Berlin")
    for fold in (0, 1):
        at = datetime(2024, 10, 27, 2, 30, tzinfo=berlin, fold=fold)
        assert again(Meeting(at=at)).at.isoformat() == at.isoformat()


def test_models_are_compared_wherever_they_are() -> None:
    for value in ([LOGIN], {"a": LOGIN}, (1, {"b": [LOGIN]})):
        with pytest.raises(ValueCodecError, match=r"Login\.password"):
            encode(value)


def test_pydantic_says_nothing_of_its_own(recwarn: pytest.WarningsRecorder) -> None:
    """Its warnings show values; what does not fit is refused by name instead."""
    model = Excluding(a=1)
    model.a = "text"  # type: ignore[assignment]  # what is tested
    with pytest.raises(ValueCodecError, match=r"Excluding\.a: Input should be a valid integer"):
        encode(model)
    assert not recwarn.list
