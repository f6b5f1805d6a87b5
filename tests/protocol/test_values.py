"""Values as JSON text and back, without a store: every kind, and what refusals say (S24, S29)."""

import json
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import pytest
from tests.values.kinds import KINDS, Circle, Kind, Model, Point, Same, Square, alike, nested

from resonate_aio.errors import ValueCodecError
from resonate_aio.protocol.values import (
    Shape,
    are_plain,
    canonical,
    decode,
    encode,
    shape_of_value,
    shown,
)

STORED = {name: kind for name, kind in KINDS.items() if kind.refusal is None}
REFUSED = {name: kind for name, kind in KINDS.items() if kind.refusal is not None}


@pytest.mark.parametrize("kind", STORED.values(), ids=STORED)
def test_a_kind_comes_back_as_it_was(kind: Kind) -> None:
    value = kind.make()
    text = encode(value)
    json.loads(text)
    made = Shape(kind.annotation).seen(value, decode(text))
    assert alike(made, kind.expected), made
    assert encode(made) == encode(kind.expected)


@pytest.mark.parametrize("kind", REFUSED.values(), ids=REFUSED)
def test_a_kind_is_refused_by_name(kind: Kind) -> None:
    value = kind.make()
    assert kind.refusal is not None
    with pytest.raises(ValueCodecError, match=kind.refusal) as raised:
        Shape(kind.annotation).seen(value, decode(encode(value)))
    assert len(str(raised.value)) < 500, "a message for people"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "nothing",
        "'a'",
        "NaN",
        "-Infinity",
        "[1e400]",
        "[NaN, 1234567890123456789012]",
        "[1e400, 1234567890123456789012]",
        '["\\ud800", 1234567890123456789012]',
        '"\\ud800"',
        "1" * 5000,
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        "[" * 100_000 + "1234567890123456789012" + "]" * 100_000,
        '{"a": 1} {}',
        b"\xff",
        b'{"a": 1234567890123456789012}',
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_no_json_is_refused(text: Any) -> None:
    with pytest.raises(ValueCodecError, match="not JSON") as raised:
        decode(text)
    assert len(str(raised.value)) < 500
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("", None),
        (" 1 ", 1),
        ("-0.0", -0.0),
        ('{"a":1,"a":2}', {"a": 2}),
        ("[18446744073709551616]", [2**64]),
        ("[1234567890123456789012, 1.5]", [1234567890123456789012, 1.5]),
        ('["\\ud83d\\ude00", 1234567890123456789012]', ["\U0001f600", 1234567890123456789012]),
        ("0.12345678901234567890123", 0.12345678901234568),
    ],
)
def test_json_is_read_exactly(text: str | None, value: Any) -> None:
    assert alike(decode(text), value)


def test_the_text_of_a_set_does_not_depend_on_its_order() -> None:
    """Hash order differs by process; a fingerprint must not (S43)."""
    one, other = {"a", "b", "c", "d"}, set("dcba")
    assert encode(one) == encode(other) == '["a","b","c","d"]'
    assert encode({2**70, 5, 2**71}) == encode({2**71, 2**70, 5})
    assert encode({(2, "b"), (1, "a")}) == '[[1,"a"],[2,"b"]]'


def test_the_canonical_text_has_its_keys_in_order() -> None:
    assert canonical('{"b":1,"a":[{"d":1,"c":2}]}') == b'{"a":[{"c":2,"d":1}],"b":1}'
    big, other = (f'{{"a":{2**70 + number}}}' for number in (0, 1))
    assert canonical(big) != canonical(other), "integers beyond 64 bits are not rounded"
    assert canonical("[1,2]") == b"[1,2]"


def test_a_live_value_says_its_own_type() -> None:
    """Arguments without annotation (S29)."""
    for name, kind in STORED.items():
        value = kind.make()
        made = shape_of_value(value).rebuild(decode(encode(value)))
        assert type(made) is type(value), name


@pytest.mark.parametrize(
    ("annotation", "text", "said"),
    [
        (Point, '{"y": 1}', "Point"),
        (Point, "[1]", "Point"),
        (Point, '{"x": "one"}', "Point"),
        (date, '"no date"', "date"),
        (set[int], '["a"]', r"set\[int\]"),
        (Model, '{"a": "x", "at": "y"}', "Model"),
        (Decimal, '{"a": 1}', "Decimal"),
        (Point | Model, "7", "Point | .*Model"),
        (dict[int, Point], '{"a": {"x": 1}}', "dict"),
    ],
)
def test_what_does_not_fit_says_so(annotation: Any, text: str, said: str) -> None:
    with pytest.raises(ValueCodecError, match=f"does not fit .*{said}"):
        Shape(annotation).rebuild(decode(text))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ([(1,)], list[list[int] | tuple[int, ...]]),
        ({"k": (1,)}, dict[str, list[int] | tuple[int, ...]]),
        (deque([date(2024, 1, 1)]), deque[str | date]),
        (OrderedDict(a=(1,)), OrderedDict[str, set[int] | tuple[int, ...]]),
        ({1: "a"}, dict[int | str, str]),
        ([date(2024, 1, 1)], list[Any | date]),
        ([Same(1)], list[Point | Same]),
    ],
    ids=str,
)
def test_a_part_that_would_come_back_as_another_member_is_refused(
    value: Any, annotation: Any
) -> None:
    """What the live value says of itself does not help there: it is not annotated (S29)."""
    for ask in (Shape(annotation).seen, Shape(annotation).fit):
        with pytest.raises(ValueCodecError, match=r"cannot tell, .* parts of the"):
            ask(value, decode(encode(value)))


def test_the_member_of_a_union_is_the_one_that_the_data_is_exactly() -> None:
    """JSON tells `1`, `1.0` and `true` apart, and Python finds them equal."""
    for value in (1, 1.0, True, [1], [1.0], [True]):
        for annotation in (
            Point | Same | int | float | bool | list[int] | list[float] | list[bool],
            Point | Same | bool | float | int | list[bool] | list[float] | list[int],
        ):
            made = Shape(annotation).seen(value, decode(encode(value)))
            assert alike(made, value), (made, annotation)


@dataclass
class Loose:
    anything: Any | None = None
    several: Sequence[Circle | Square] = ()


def test_what_is_no_choice_is_not_refused() -> None:
    """`Any | None` is any plain data, and a sequence is a list (docs/values.md)."""
    bare = [date(2024, 1, 1)]
    assert Shape(Annotated[list[date], ["no hash"]]).seen((bare[0],), ["2024-01-01"]) == bare
    value = Loose((1, 2), (Circle(1.0),))
    assert Shape(Loose).seen(value, decode(encode(value))) == Loose([1, 2], [Circle(1.0)])


class Rude:
    """A class that does what it likes while it is read or written."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def model_dump(self, **_: Any) -> Any:
        raise self.error

    @classmethod
    def model_validate_json(cls, text: str, **_: Any) -> Any:
        raise SystemExit(text)


@pytest.mark.parametrize("error", [SystemExit(3), RuntimeError("no"), MemoryError()], ids=repr)
def test_a_class_that_raises_while_it_is_read_is_refused(error: BaseException) -> None:
    with pytest.raises(ValueCodecError, match=f"Rude value cannot .*{type(error).__name__}"):
        encode(Rude(error))
    with pytest.raises(ValueCodecError, match="does not fit Rude: SystemExit"):
        Shape(Rude).rebuild({"a": 1})


def test_ctrl_c_is_not_taken_for_a_refusal() -> None:
    with pytest.raises(KeyboardInterrupt):
        encode(Rude(KeyboardInterrupt()))


@dataclass
class WithInitVar:
    x: int
    extra: InitVar[int] = 0


def test_what_is_not_kept_in_fields_cannot_be_rebuilt() -> None:
    with pytest.raises(ValueCodecError, match="an InitVar is not kept"):
        Shape(WithInitVar).seen(WithInitVar(1), {"x": 1})


def test_plain_data_needs_no_shape() -> None:
    plain: list[Any] = [int, str, list[int], dict[str, Any], int | None, Any, "Unresolved"]
    shaped: list[Any] = [date, tuple[int, ...], dict[int, str], set[int], Point | None]
    assert all(Shape(annotation).is_plain_data for annotation in plain)
    assert not any(Shape(annotation).is_plain_data for annotation in shaped)
    assert are_plain((1, "a", None, True))
    assert not are_plain((1, 1.5))


def test_the_deepest_value_that_is_stored_is_read() -> None:
    for depth in (250, 254):
        assert decode(encode(nested(depth))) == nested(depth)
    with pytest.raises(ValueCodecError, match="levels"):
        encode(nested(255))


def test_shown_is_short_and_printable() -> None:
    assert shown("a\nb\x00") == r"a\nb\x00"
    assert len(shown("x" * 1000)) < 250
