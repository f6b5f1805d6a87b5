"""Errors as data, and back without running anything that the data names (S51)."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import pytest

from resonate_aio import errors
from resonate_aio.errors import (
    ApplicationError,
    ResonateCanceledError,
    ResonateError,
    ResonateTimedoutError,
)
from resonate_aio.protocol.failures import describe, failure_value, outcome_error, shown_error
from resonate_aio.protocol.rebuilding import rebuild
from resonate_aio.protocol.records import Promise, PromiseState, Value
from resonate_aio.protocol.values import decode


def again(error: BaseException) -> Exception:
    """The error as somebody reads it who has this process's modules."""
    return rebuild(decode(failure_value(error).data))


def raised_by(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as error:  # noqa: BLE001  whatever it is, it is what is compared
        return error
    raise AssertionError("nothing was raised")


class FieldsError(Exception):
    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.where = where


class SlotsError(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code: int) -> None:
        self.code = code


@dataclass
class DataError(Exception):
    code: int
    where: str = "here"


class SystemFileError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path)
        self.path = path


def missing_name() -> NoReturn:
    undefined: Any = eval("undefined_name")
    raise AssertionError(undefined)


KEPT: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("wrong"),
    "no message": ValueError,
    "several arguments": lambda: ValueError("a", 1, None, [1, {"b": 2}]),
    "KeyError": lambda: KeyError("key"),
    "AssertionError": lambda: AssertionError("no"),
    "RecursionError": lambda: RecursionError("deep"),
    "MemoryError": MemoryError,
    "a warning": lambda: UserWarning("careful"),
    "TimeoutError": lambda: TimeoutError("late"),
    "FileNotFoundError": lambda: raised_by(lambda: os.stat("/does/not/exist")),
    "OSError with two files": lambda: OSError(18, "cross-device", "a", None, "b"),
    "OSError of text": lambda: OSError("just text"),
    "ConnectionResetError": lambda: ConnectionResetError(104, "reset"),
    "a subclass of OSError": lambda: SystemFileError("/x"),
    "UnicodeDecodeError": lambda: raised_by(b"ab\xff".decode),
    "UnicodeEncodeError": lambda: raised_by(lambda: "é".encode("ascii")),
    "ModuleNotFoundError": lambda: raised_by(lambda: __import__("no_such_module")),
    "NameError": lambda: raised_by(missing_name),
    "AttributeError": lambda: raised_by(lambda: (1).nothing),  # type: ignore[attr-defined]
    "JSONDecodeError": lambda: raised_by(lambda: json.loads("{")),
    "TimeoutExpired": lambda: subprocess.TimeoutExpired("command", 3),
    "IncompleteReadError": lambda: asyncio.IncompleteReadError(b"ab", 5),
    "fields": lambda: FieldsError(7, "there"),
    "slots": lambda: SlotsError(7),
    "a dataclass": lambda: DataError(7),
    "ours": lambda: ResonateTimedoutError("id", 5),
    "unknown elsewhere": lambda: ApplicationError("Foreign", "text", {"code": 7}),
}


@pytest.mark.parametrize("name", KEPT)
def test_type_text_arguments_and_attributes_are_kept(name: str) -> None:
    error = KEPT[name]()
    made = again(error)
    assert type(made) is type(error)
    assert str(made) == str(error)
    assert made.args == error.args
    assert made.__dict__ == error.__dict__ or name == "IncompleteReadError"  # bytes are text
    for field in ("errno", "strerror", "filename", "filename2", "name", "path", "code", "start"):
        assert getattr(made, field, None) == getattr(error, field, None)


def test_a_syntax_error_keeps_its_place() -> None:
    error = raised_by(lambda: compile("a b", "file.py", "exec"))
    made = again(error)
    assert isinstance(made, SyntaxError)
    assert (made.filename, made.lineno, made.offset, made.text) == ("file.py", 1, 3, "a b\n")
    assert str(made) == str(error)


def test_causes_and_notes_are_kept() -> None:
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    error.__cause__.__cause__ = FieldsError(7, "there")
    error.add_note("a note")
    made = again(error)
    assert made.__notes__ == ["a note"]
    assert repr(made.__cause__) == repr(error.__cause__)
    assert isinstance(made.__cause__, KeyError)
    assert isinstance(made.__cause__.__cause__, FieldsError)


def test_groups_are_built_of_their_rebuilt_members() -> None:
    inner = ExceptionGroup("inner", [KeyError("k"), FieldsError(7, "there")])
    made = again(BaseExceptionGroup("outer", [SystemExit(3), inner]))
    assert type(made) is ExceptionGroup
    left, right = made.exceptions
    assert isinstance(left, ApplicationError)
    assert left.name == "SystemExit"
    assert isinstance(right, ExceptionGroup)
    assert [type(member) for member in right.exceptions] == [KeyError, FieldsError]


def test_errors_that_hold_one_another_are_cut() -> None:
    group: Exception = ValueError("x")
    for _ in range(8):
        group = ExceptionGroup("level", [group] * 64)
    text = failure_value(group).data
    assert text is not None
    assert len(text) < 100_000
    loop = ValueError("first")
    loop.__cause__ = second = ValueError("second")
    second.__cause__ = loop
    assert str(again(loop)) == "first"


# ------------------------------------------------------------------- errors that misbehave


class RudeError(Exception):
    """Nothing about it can be asked."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise SystemExit(3)

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("no pickle")


class Nested:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class NoArgumentsError(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")


def rude_errors() -> list[BaseException]:
    holding = ValueError("holding", Nested(), float("nan"), {1: 2, "1": 3}, "\ud800")
    holding.here = Nested()  # type: ignore[attr-defined]
    deep: list[Any] = []
    for _ in range(253):
        deep = [deep]
    return [
        RudeError("x"),
        NoArgumentsError("x"),
        holding,
        ValueError(deep),
        OSError("name \udcff"),
    ]


@pytest.mark.parametrize("error", rude_errors(), ids=lambda error: type(error).__name__)
def test_an_error_that_cannot_be_asked_is_recorded_all_the_same(error: BaseException) -> None:
    value = failure_value(error)
    assert decode(value.data)["name"] == type(error).__qualname__
    assert isinstance(shown_error(error), str)
    again(error)


def test_what_has_no_json_form_is_shown_as_text() -> None:
    made = again(ValueError("text", object, {1, 2}, b"ab"))
    assert made.args == ("text", "<class 'object'>", [1, 2], "YWI=")


# -------------------------------------------------------- what must not happen when reading


class Trap:
    """Whatever touches it leaves a mark."""

    touched: list[str]

    def __init__(self) -> None:
        Trap.touched = []

    def __getattr__(self, name: str) -> Any:
        Trap.touched.append(name)
        return lambda *_: Trap.touched.append(f"{name}()")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        Trap.touched.append("__class__")
        return type


class MetaTrap(type):
    def __getattribute__(cls, name: str) -> Any:
        if name not in {"__flags__", "touched"}:
            Trap.touched.append(f"{name} of a class")
        return super().__getattribute__(name)

    def __instancecheck__(cls, instance: object) -> bool:
        Trap.touched.append("isinstance")
        return True

    def __subclasscheck__(cls, other: type) -> bool:
        Trap.touched.append("issubclass")
        return True


class TrappedError(Exception, metaclass=MetaTrap):
    def __init__(self, *args: Any) -> None:
        Trap.touched.append("__init__")

    def __init_subclass__(cls) -> None:
        Trap.touched.append("__init_subclass__")

    def __setattr__(self, name: str, value: object) -> None:
        Trap.touched.append(f"set {name}")

    @property
    def code(self) -> int:
        return 1

    @code.setter
    def code(self, value: object) -> None:
        Trap.touched.append("a property")


class MadeError(Exception):
    def __new__(cls, *args: Any) -> Self:
        Trap.touched.append("__new__")
        return super().__new__(cls)


@pytest.fixture
def baited() -> Iterator[str]:
    """A loaded module in which every way to anything is trapped."""
    Trap()
    module = types.ModuleType("baited")
    vars(module).update(
        __getattr__=lambda name: Trap.touched.append(f"module {name}"),
        get=lambda *args: Trap.touched.append(f"get {args}"),
        trap=Trap(),
        submodule=types.SimpleNamespace(get=lambda *args: Trap.touched.append(f"got {args}")),
        TrappedError=TrappedError,
        MadeError=MadeError,
        mapping={"Error": ValueError},
    )
    sys.modules["baited"] = module
    sys.modules["strange"] = Trap()  # type: ignore[assignment]
    Trap.touched.clear()
    yield "baited"
    del sys.modules["baited"], sys.modules["strange"]


def forged(module: Any, name: Any, **more: Any) -> Exception:
    return rebuild({"__type": "error", "name": name, "message": "m", "module": module, **more})


@pytest.mark.parametrize(
    "name",
    [
        "missing",
        "get",
        "get.x",
        "trap",
        "trap.Error",
        "submodule.url",
        "mapping.Error",
        "MadeError",
    ],
)
def test_names_are_looked_up_without_calling_anything(baited: str, name: str) -> None:
    """Only namespaces of modules and classes are read, as dictionaries."""
    assert type(forged(baited, name)) is ApplicationError
    assert type(forged("strange", name)) is ApplicationError
    assert not Trap.touched


def test_an_instance_is_made_without_its_class(baited: str) -> None:
    made = forged(
        baited, "TrappedError", args=[1], attributes={"code": 1, "free": 2}, notes=["note"]
    )
    assert not Trap.touched
    assert type(made) is TrappedError
    assert made.args == (1,)
    assert vars(made)["free"] == 2


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "SystemExit"),
        ("builtins", "KeyboardInterrupt"),
        ("builtins", "GeneratorExit"),
        ("builtins", "BaseException"),
        ("builtins", "BaseExceptionGroup"),
        ("builtins", "ExceptionGroup"),
        ("builtins", "StopIteration"),
        ("builtins", "StopAsyncIteration"),
        ("asyncio.exceptions", "CancelledError"),
        ("asyncio", "CancelledError"),
        ("builtins", "eval"),
        ("builtins", "object"),
        ("builtins", ""),
        ("builtins", "ValueError.__class__"),
        ("os", "system"),
        ("no_such_module", "Error"),
        (None, "ValueError"),
        (["builtins"], "ValueError"),
    ],
)
def test_what_steers_asyncio_or_is_no_error_is_held_as_data(module: Any, name: Any) -> None:
    """A forged CancelledError would end a TaskGroup without an error."""
    made = forged(module, name, args=[1])
    assert type(made) is ApplicationError
    assert made.message == "m"


def test_attributes_cannot_take_the_place_of_what_errors_are_made_of() -> None:
    names = ("args", "__class__", "__cause__", "__traceback__", "with_traceback", "add_note")
    made = forged("builtins", "ValueError", args=["a"], attributes=dict.fromkeys(names, 1))
    assert made.args == ("a",)
    assert not vars(made)
    assert made.with_traceback(None) is made


def test_builtin_fields_of_the_wrong_kind_are_left_out() -> None:
    made = forged("builtins", "OSError", fields={"errno": {"a": 1}, "filename": "f", "other": 1})
    assert isinstance(made, OSError)
    assert (made.errno, made.filename) == (None, "f")
    assert str(made)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "without a value"),
        ("text", "Exception: text"),
        (7, "Exception: 7"),
        ([1, 2], r"Exception: \[1,2\]"),
        ({"code": 7}, '"code":7'),
        ({"__error__": "of the older SDK"}, "Exception: of the older SDK"),
        ({"__type": "error", "message": "of another SDK", "name": "Oops"}, "Oops: of another SDK"),
        ({"__type": "error", "name": 5, "message": [], "cause": 1, "members": {}}, "Exception"),
    ],
)
def test_rejections_of_others_are_application_errors(data: Any, text: str) -> None:
    made = rebuild(data)
    assert type(made) is ApplicationError
    with pytest.raises(ApplicationError, match=text):
        raise made
    if data == {"code": 7}:
        assert made.attributes == data


def test_aggregates_of_other_sdks_are_groups() -> None:
    errors = [{"__type": "error", "name": "A", "message": "a"}, "text"]
    made = rebuild({"__type": "aggregate_error", "message": "both", "errors": errors})
    assert isinstance(made, ExceptionGroup)
    assert [str(member) for member in made.exceptions] == ["A: a", "Exception: text"]


def test_the_outcome_of_each_way_to_fail() -> None:
    def outcome(state: PromiseState, data: str | None = None) -> Exception:
        return outcome_error(Promise("p", state, 5, 0, Value(), Value(None, data), {}, 1))

    assert isinstance(outcome(PromiseState.CANCELED), ResonateCanceledError)
    assert isinstance(outcome(PromiseState.TIMEDOUT), ResonateTimedoutError)
    unreadable = outcome(PromiseState.REJECTED, "{")
    assert isinstance(unreadable, ApplicationError)
    assert "'p'" in str(unreadable)
    assert isinstance(unreadable, ResonateError)


def test_what_is_stored_is_what_other_clients_write() -> None:
    data = describe(FieldsError(7, "there"))
    assert data == {
        "__type": "error",
        "name": "FieldsError",
        "message": "code 7",
        "module": __name__,
        "args": ["code 7"],
        "attributes": {"code": 7, "where": "there"},
    }


def library_errors() -> list[type[ResonateError]]:
    found = [ResonateError]
    for kind in found:
        found += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", library_errors(), ids=lambda kind: kind.__name__)
def test_an_error_of_the_library_can_be_shown_whatever_is_stored_of_it(
    kind: type[ResonateError],
) -> None:
    """Somebody wrote into its row (law 14): those who handle it must not fail over that."""
    stored = {"__type": "error", "name": kind.__name__, "module": kind.__module__}
    for attributes in ({}, {"mesg": 5, "code": "x", "id": [], "timeout_at_ms": {}, "name": None}):
        error = rebuild({**stored, "message": "said", "attributes": attributes})
        assert type(error) is kind
        text = "5" if attributes and kind is not ApplicationError else "said"
        assert text in str(error)
        assert repr(error)
        for name in ("mesg", "code", "details", *inspect.get_annotations(kind)):
            assert hasattr(error, name), name
        assert rebuild(describe(error)).__class__ is kind


def test_a_class_that_is_stored_without_arguments_says_its_message() -> None:
    """As another client, or a person, writes it: name, message and module."""
    for kind in (ValueError, RuntimeError, FieldsError):
        stored = {"__type": "error", "name": kind.__name__, "module": kind.__module__}
        error = rebuild({**stored, "message": "said"})
        assert type(error) is kind
        assert str(error) == "said"


def test_an_error_raised_without_arguments_has_none_afterwards() -> None:
    for error in (ValueError(), OSError(), DataError(3)):
        assert again(error).args == error.args
        assert str(again(error)) == str(error)
