"""The kinds of value that functions are given and return, and what becomes of each (S24, S29).

A kind is kept (it comes back as it was, in value and type), changed (it comes back as plain
data, or as what its annotation says), or refused by name before anything is recorded.
"""

import asyncio
import collections
import dataclasses
import enum
import math
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import attrs
import msgspec
import pydantic
from tests.values.models import (
    LOGIN,
    Adding,
    Bird,
    Choosing,
    Derived,
    Excluding,
    ExcludingAll,
    Holder,
    InClear,
    Login,
    LongSecret,
    Private,
    Rounding,
    Vault,
    private_one,
)

T = TypeVar("T")
Bound = TypeVar("Bound", bound=datetime)


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Same(Point):
    """It has the same fields."""


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    at: datetime
    raw: bytes = b""


@dataclasses.dataclass(kw_only=True)
class KeywordOnly:
    many: tuple[int, ...] = ()
    one: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Outer:
    inner: Point
    several: list[Point]
    by_name: dict[str, Point]
    maybe: Point | None = None


@dataclasses.dataclass
class Tree:
    value: int
    children: list["Tree"] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


@dataclasses.dataclass
class Hidden:
    _secret: int
    later: int = dataclasses.field(init=False, default=3)


@dataclasses.dataclass
class Circle:
    radius: float


@dataclasses.dataclass
class Square:
    side: float


@dataclasses.dataclass
class Drawing:
    """Its fields are what msgspec refuses to describe."""

    shapes: list[Circle | Square]
    suit: "Suit"
    more: Optional["Drawing"] = None


@attrs.define
class Attrs:
    a: int
    day: date | None = None


class Record(msgspec.Struct):
    a: int
    day: date | None = None


class Renamed(msgspec.Struct, rename="camel", frozen=True):
    long_name: int


class InOrder(msgspec.Struct, array_like=True):
    a: int
    b: str


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    lives: int


class Model(pydantic.BaseModel):
    a: int
    at: datetime
    tags: set[str] = set()
    ratio: float = 0.5


class Aliased(pydantic.BaseModel):
    name: int = pydantic.Field(alias="theName")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    day: date
    many: tuple[int, ...]


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Everything(TypedDict):
    a: int
    day: date


class Partly(TypedDict):
    a: int
    day: NotRequired[date]


class Nothing(TypedDict, total=False):
    raw: bytes


class Named(NamedTuple):
    a: int
    day: date = date(2020, 1, 1)


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024  the old way is a kind too


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    ON = "on"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Suit(enum.Enum):
    """Values of any type."""

    HEARTS = (1, "h")
    SPADES = (2, "s")
    NONE = None


class Celsius(float):
    pass


class Email(str):
    __slots__ = ()


Money = NewType("Money", Decimal)


class Opaque:
    pass


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def circle() -> Any:
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


async def coroutine_function() -> None:
    pass


def waiting() -> Any:
    """A coroutine that nobody awaited; closed, so that it does not complain about that."""
    made = coroutine_function()
    made.close()
    return made


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of value.

    Attributes:
        make: Makes a new value of it.
        annotation: What functions that take and return it say.
        becomes: What it comes back as, where that is another value; see `expected`.
        refusal: What the error says (a regular expression), where it is refused.
        refused_late: It has a JSON form, but a reader could not tell what it is. Where the live
            value is at hand on a replay, too (arguments of a step), it is kept.
    """

    make: Callable[[], Any]
    annotation: Any
    becomes: Callable[[], Any] | None = None
    refusal: str | None = None
    refused_late: bool = False

    @property
    def expected(self) -> Any:
        """What a function is given, and what a caller gets."""
        return (self.becomes or self.make)()


def kept(value: Any, annotation: Any) -> Kind:
    return Kind(lambda: value, annotation)


def changed(value: Any, annotation: Any, becomes: Any) -> Kind:
    return Kind(lambda: value, annotation, lambda: becomes)


def refused(value: Any, reason: str, annotation: Any = Any) -> Kind:
    return Kind(lambda: value, annotation, refusal=reason)


def ambiguous(value: Any, annotation: Any) -> Kind:
    return Kind(lambda: value, annotation, refusal="cannot tell", refused_late=True)


NOON = datetime(2024, 2, 29, 12, 30, 15, 123456)
EAST = timezone(timedelta(hours=5, minutes=30))
ID = UUID("12345678-1234-5678-1234-567812345678")

KINDS: dict[str, Kind] = {
    # plain data
    "None": kept(None, None),
    "bool": kept(True, bool),
    "bool as int": kept(True, int),
    "int": kept(7, int),
    "int as float": kept(7, float),
    "int beyond 64 bits": kept(2**64 + 1, int),
    "int of 4,000 digits": kept(1 - 10**4000, int),
    "int far beyond": kept(-(3**2000), int),
    "ints beyond 64 bits inside": kept({"a": [2**70, -(2**63) - 1]}, dict[str, list[int]]),
    "float": kept(0.1 + 0.2, float),
    "the smallest float": kept(5e-324, float),
    "-0.0": kept(-0.0, float),
    "str": kept("text", str),
    "str of any characters": kept("é\u2028\x00\x1f\U0001f600", str),
    "a huge str": Kind(lambda: "x" * 2_000_000, str),
    "list": kept([1, "a", None, [True]], list),
    "dict": kept({"a": {"b": [1.5]}}, dict[str, Any]),
    "without annotation": kept({"a": [1, 2]}, Any),
    # standard library
    "bytes": kept(b"\x00\xff", bytes),
    "bytearray": kept(bytearray(b"ab"), bytearray),
    "datetime, naive": kept(NOON, datetime),
    "datetime, UTC": kept(NOON.replace(tzinfo=UTC), datetime),
    "datetime, aware": kept(NOON.replace(tzinfo=EAST), datetime),
    "datetime, first": kept(datetime.min, datetime),
    "date": kept(date(2024, 2, 29), date),
    "time": kept(time(1, 2, 3, 4), time),
    "time, aware": kept(time(1, 2, tzinfo=EAST), time),
    "timedelta": kept(timedelta(days=3, microseconds=-1), timedelta),
    "UUID": kept(ID, UUID),
    "Decimal": kept(Decimal("1.10"), Decimal),
    "Decimal infinity": kept(Decimal("-Infinity"), Decimal),
    "Path": kept(Path("/a/b"), Path),
    "PurePosixPath": kept(PurePosixPath("a"), PurePosixPath),
    "PureWindowsPath": kept(PureWindowsPath("c:\\a"), PureWindowsPath),
    # collections
    "set": kept({3, 1, 2}, set[int]),
    "set of dates": kept({date(2024, 1, 1), date(2024, 1, 2)}, set[date]),
    "frozenset": kept(frozenset({"a", "b"}), frozenset[str]),
    "tuple, fixed": kept((1, "a", NOON), tuple[int, str, datetime]),
    "tuple, variadic": kept((1, 2, 3), tuple[int, ...]),
    "tuple, empty": kept((), tuple[()]),
    "tuple, bare": kept((1, 2), tuple),
    "deque": kept(collections.deque([1, 2]), collections.deque[int]),
    "OrderedDict": kept(collections.OrderedDict(b=1, a=2), collections.OrderedDict[str, int]),
    "Counter": kept(collections.Counter("aab"), collections.Counter),
    "int keys": kept({1: "a", 2: "b"}, dict[int, str]),
    "date keys": kept({date(2024, 1, 1): 1}, dict[date, int]),
    "UUID keys": kept({ID: 1}, dict[UUID, int]),
    "enum keys": kept({Color.RED: 1}, dict[Color, int]),
    "nested": kept({"a": [{"b": {1, 2}}]}, dict[str, list[dict[str, set[int]]]]),
    # classes
    "dataclass": kept(Point(1, 2.5), Point),
    "dataclass, slots and frozen": kept(Slotted(NOON, b"\xff"), Slotted),
    "dataclass, kw_only": kept(KeywordOnly(many=(1,), one={"a"}), KeywordOnly),
    "dataclass, nested": kept(Outer(Point(1), [Point(2)], {"a": Point(3)}, None), Outer),
    "dataclass, recursive": kept(Tree(1, [Tree(2, [Tree(3)])]), Tree),
    "dataclass, generic": kept(Box(date(2024, 1, 1)), Box[date]),
    "dataclass, private and late fields": kept(Hidden(1), Hidden),
    "dataclass, odd fields": kept(
        Drawing([Circle(1.5), Square(2.0)], Suit.SPADES, Drawing([], Suit.NONE)), Drawing
    ),
    "attrs": kept(Attrs(1, date(2024, 1, 1)), Attrs),
    "Struct": kept(Record(1, date(2024, 1, 1)), Record),
    "Struct, renamed": kept(Renamed(1), Renamed),
    "Struct, array": kept(InOrder(1, "a"), InOrder),
    "Struct, tagged union": kept([Cat(9), Dog(1)], list[Cat | Dog]),
    "model": kept(Model(a=1, at=NOON, tags={"x"}), Model),
    "model, aliased": kept(Aliased(theName=1), Aliased),
    "model, strict": kept(Strict(day=date(2024, 1, 1), many=(1, 2)), Strict),
    "model, root": kept(Numbers([1, 2]), Numbers),
    "model, no secret": kept(Login(user="u", password=""), Login),  # type: ignore[arg-type]
    "model, a secret in clear on purpose": kept(InClear(password="p"), InClear),  # type: ignore[arg-type]
    "model, excluded at its default": kept(Excluding(a=1), Excluding),
    "model, private and derived": kept(Derived(a=2), Derived),
    "model, a subclass": kept(Bird(legs=2, wings=2), Bird),
    "models in a list": kept([Model(a=1, at=NOON)], list[Model]),
    "TypedDict": kept({"a": 1, "day": date(2024, 1, 1)}, Everything),
    "TypedDict, not required": kept({"a": 1}, Partly),
    "TypedDict, not total": kept({"raw": b"x"}, Nothing),
    "NamedTuple": kept(Named(1), Named),
    "namedtuple": kept(Pair(1, "b"), Pair),
    "Enum": kept(Color.RED, Color),
    "IntEnum": kept(Level.HIGH, Level),
    "StrEnum": kept(Mode.ON, Mode),
    "Flag": kept(Rights.READ | Rights.WRITE, Rights),
    "Enum of any values": kept(Suit.HEARTS, Suit),
    "enums in a list": kept([Suit.NONE, Suit.SPADES], list[Suit]),
    "a subclass of float": kept(Celsius(36.6), Celsius),
    "a subclass of str": kept(Email("a@b"), Email),
    # forms of annotation
    "Optional, none": kept(None, Point | None),
    "Optional, some": kept(Point(1), Optional[Point]),  # noqa: UP045  the other spelling
    "union of classes": kept([Circle(1.0), Square(2.0)], list[Circle | Square]),
    "union with plain types": kept([1, "a", None, Point(1)], list[Point | int | str | None]),
    "union of alike, the first": kept("2024-01-01", str | date),
    "Literal": kept("a", Literal["a", 1]),
    "Literal of an enum": kept(Suit.SPADES, Literal[Suit.SPADES, 7]),
    "Annotated": kept(NOON, Annotated[datetime, "when"]),
    "NewType": kept(Money(Decimal("1.5")), Money),
    "TypeVar, bound": kept(NOON, Bound),
    "union of numbers": kept([2, 2.0, Point(1)], list[Point | float | int]),
    "union of arrays, the first": kept({"a": [1]}, dict[str, list[int] | tuple[int, ...]]),
    "union of numbers inside": kept([1.0], list[int] | list[float]),
    "union as a key": kept({"a": 1}, dict[int | str, int]),
    # changed: the annotation says something else, or nothing
    "a subclass of what is annotated": changed(
        Named(1), tuple[int, date], (1, date(2024, 1, 1).replace(year=2020))
    ),
    "a tuple for a list": changed((1, 2), list[int], [1, 2]),
    "a tuple for a sequence of a union": changed(
        (Circle(1.0), Square(2.0)), Sequence[Circle | Square], [Circle(1.0), Square(2.0)]
    ),
    "more keys than a TypedDict has": changed({"a": 1, "more": 2}, Partly, {"a": 1}),
    "int keys without annotation": changed([{1: "a"}], Any, [{"1": "a"}]),
    "dataclasses without annotation": changed([Point(1)], Any, [{"x": 1, "y": 0.0}]),
    # refused
    "nan": refused(math.nan, "JSON has no nan", float),
    "inf inside": refused({"a": [1, math.inf]}, r"JSON has no inf.*\['a'\]\[1\]"),
    "nan in a class": refused(Point(1, math.nan), r"JSON has no nan.*\['y'\]", Point),
    "nan in a model": refused(Model(a=1, at=NOON, ratio=math.nan), "JSON has no nan", Model),
    "nan as a key": refused({math.nan: 1}, "JSON has no nan", dict[float, int]),
    "complex": refused(1j, "a complex has no JSON form", complex),
    "half a surrogate": refused("\ud800", "surrogate", str),
    "half a surrogate in a key": refused({"\ud800": 1}, "surrogate", dict[str, int]),
    "4,001 digits": refused(10**4000, "more than 4,000 digits", int),
    "thousands of digits": refused(-(10**5000), "more than 4,000 digits", int),
    "two keys alike": refused({1: "a", "1": "b"}, "two keys of a dict are both '1'"),
    "a tuple as a key": refused({(1, 2): 3}, "a key of type tuple"),
    "an offset of seconds": refused(
        NOON.replace(tzinfo=timezone(timedelta(seconds=30))), "minutes from UTC", datetime
    ),
    "object": refused(object(), "an object has no JSON form"),
    "an opaque class": refused([Opaque()], r"an Opaque has no JSON form.*at \[0\]"),
    "a class": refused(Point, "keep its name"),
    "a function": refused(nested, "keep its name"),
    "a generator": refused((n for n in "ab"), "make a list"),
    "a coroutine": refused(waiting(), "is an `await` missing"),
    "a lock": refused({"lock": threading.Lock()}, r"lock has no JSON form.*\['lock'\]"),
    "an asyncio lock": refused(asyncio.Lock(), "a Lock has no JSON form"),
    "an exception": refused(ValueError("x"), "raise it"),
    "a secret": refused([pydantic.SecretStr("x")], r"SecretStr has no JSON.* dependency.*\[0\]"),
    "a deque of so many": refused(collections.deque([1], 3), "maxlen", collections.deque[int]),
    "model, secret": refused(LOGIN, r"Login\.password is a SecretStr, and secrets are not", Login),
    "model, secret without annotation": refused([LOGIN], r"Login\.password is a SecretStr"),
    "model, secret far inside": refused(
        Vault(logins={"a": [LOGIN]}),
        r"Login\.password .*\['logins'\]\['a'\]\[0\]\['password'\]",
        Vault,
    ),
    "model, secret that is checked": refused(
        LongSecret(key=pydantic.SecretBytes(b"x" * 12)),
        r"LongSecret\.key is a SecretBytes",
        LongSecret,
    ),
    "model, excluded": refused(
        Excluding(a=1, hidden=5), r"Excluding\.hidden is excluded", Excluding
    ),
    "model, all excluded": refused(
        ExcludingAll(hidden=5),
        r"cannot be read from what it dumps to .*hidden: Field required",
        ExcludingAll,
    ),
    "model, private": refused(private_one("x"), r"Private\._note is a private attribute", Private),
    "model, lossy": refused(Rounding(ratio=1.6), r"Rounding\.ratio would come back", Rounding),
    "model, validator that adds": refused(Adding(n=1), r"Adding\.n would come back", Adding),
    "model, a subclass in a field": refused(
        Holder(animal=Bird(legs=2, wings=2)), r"Holder\.animal .* as Animal, not Bird", Holder
    ),
    "model, another member of a union": refused(
        Choosing(either=frozenset({1})), r"Choosing\.either .* as set, not frozenset", Choosing
    ),
    "model, a tuple as anything": refused(
        Choosing(anything=[(1, 2)]), r"Choosing\.anything .* as list, not tuple.*\[0\]", Choosing
    ),
    "model, a deque of so many": refused(
        Choosing(recent=collections.deque([1], 3)), r"Choosing\.recent .* another deque", Choosing
    ),
    "a tuple where a list comes first": ambiguous((1, 2), list[int] | tuple[int, int]),
    "a list where a tuple comes first": ambiguous([1, 2], tuple[int, int] | list[int]),
    "a frozenset where a set comes first": ambiguous(frozenset({1}), set[int] | frozenset[int]),
    "a named tuple where a tuple comes first": ambiguous(Pair(1, 2), tuple[int, int] | Pair),
    "a subclass where its base comes first": ambiguous(Same(1), Point | Same),
    "a date among anything": ambiguous(date(2024, 1, 1), Any | date),
    "itself": refused(circle(), "contains itself"),
    "deep nesting": refused(nested(300), "254 levels deep"),
    "very deep nesting": refused(nested(50_000), "254 levels deep"),
    "a date where text comes first": ambiguous(date(2024, 1, 1), str | date),
    "a list where a set comes first": ambiguous([1], set[int] | list[int]),
}


def alike(a: Any, b: Any) -> bool:
    """Whether two values are equal and of one type, and so inside them."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(map(of_type, a)) == list(map(of_type, b)) and all(
            alike(a[key], b[key]) for key in a
        )
    if isinstance(a, list | tuple | collections.deque):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, set | frozenset):
        return set(map(of_type, a)) == set(map(of_type, b))
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        names = [field.name for field in dataclasses.fields(a)]
        return all(alike(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, float):
        return bool(a.hex() == b.hex())  # -0.0 is not 0.0
    return bool(a == b)


def of_type(value: Any) -> tuple[type, Any]:
    return type(value), value
