"""What a random program is made of.

A program is a `Part`: nodes that are run one after the other. Some nodes hold parts of their
own, which run beside each other, under a time limit, or in a function of their own. Nothing
here runs: `running` does that, and `answers` says what each node may give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

Dialect = Literal["async", "generator"]


@dataclass(frozen=True)
class Node:
    """One statement of a program; its name is its own."""

    name: str


@dataclass(frozen=True)
class Part:
    """Statements in order.

    Attributes:
        nap_s: A real sleep before its first call: not durable, and not recorded.
        raises: It ends with an error that carries its name.
    """

    name: str
    nodes: tuple[Node, ...]
    nap_s: float = 0.0
    raises: bool = False


@dataclass(frozen=True)
class Step(Node):
    """A step that takes its time.

    Attributes:
        how: "plain"; "id": under an explicit id; "volatile": with durable=False.
    """

    takes_s: float
    how: Literal["plain", "id", "volatile"] = "plain"


@dataclass(frozen=True)
class Fails(Node):
    """A step that fails, and the failure is caught."""

    takes_s: float


@dataclass(frozen=True)
class Flaky(Node):
    """A step that fails twice and is retried."""

    takes_s: float


@dataclass(frozen=True)
class Sleep(Node):
    """`ctx.sleep`."""

    for_s: float


@dataclass(frozen=True)
class Passes(Node):
    """Bare passes of the event loop."""

    count: int


@dataclass(frozen=True)
class Begin(Node):
    """`begin_run`; awaited at the end of its part, or never."""

    takes_s: float
    is_awaited: bool


@dataclass(frozen=True)
class Function(Node):
    """A part in a function of its own.

    Attributes:
        on_cancel: What it does when it is cancelled: "passes" the cancel on; "cleans" up in a
            step and then passes it on; "returns" a value all the same, after a step (S10).
    """

    body: Part
    how: Literal["run", "rpc"] = "run"
    dialect: Dialect = "async"
    on_cancel: Literal["passes", "cleans", "returns"] = "passes"


@dataclass(frozen=True)
class Detached(Node):
    """`ctx.detached` of a step."""

    takes_s: float


@dataclass(frozen=True)
class Attempt(Node):
    """`try` around a part, `except` for the error it may raise."""

    body: Part


@dataclass(frozen=True)
class Gather(Node):
    """`asyncio.gather` of helper coroutines.

    Attributes:
        shares: The helpers see each other's trace, so that their order counts.
    """

    parts: tuple[Part, ...]
    shares: bool


@dataclass(frozen=True)
class Group(Node):
    """`asyncio.TaskGroup` of helper coroutines."""

    parts: tuple[Part, ...]
    shares: bool


@dataclass(frozen=True)
class Calls(Node):
    """Several ctx calls at once, by `gather`, or in the order in which they complete."""

    takes_s: tuple[float, ...]
    how: Literal["gather", "as_completed"]


@dataclass(frozen=True)
class First(Node):
    """`asyncio.wait(FIRST_COMPLETED)` over ctx calls; the losers are cancelled."""

    takes_s: tuple[float, ...]


@dataclass(frozen=True)
class Limit(Node):
    """A part under `ctx.timeout` (durable) or `asyncio.timeout`.

    Attributes:
        by_clock: Under an `asyncio.timeout`, which starts again in each life.
    """

    body: Part
    limit_s: float
    is_durable: bool
    by_clock: bool = False


@dataclass(frozen=True)
class Cancelled(Node):
    """A helper that is cancelled after a durable sleep."""

    body: Part
    after_s: float


@dataclass(frozen=True)
class Guarded(Node):
    """A part that cleans up when it is cancelled, and passes the cancel on."""

    body: Part
    cleanup: Part


@dataclass(frozen=True)
class Shielded(Node):
    """A shielded step under `ctx.timeout`, awaited afterwards when the limit came first."""

    takes_s: float
    limit_s: float


@dataclass(frozen=True)
class Outside(Node):
    """A promise that is settled from outside."""


@dataclass(frozen=True)
class Deadline(Node):
    """A promise that nobody settles: its own deadline against a time limit."""

    promise_s: float
    limit_s: float


def parts_of(node: Node) -> Iterator[Part]:
    """The parts that a node holds."""
    for field in fields(node):
        value = getattr(node, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Part):
                yield part


def nodes_of(part: Part) -> Iterator[Node]:
    """Every node in a part, at any depth."""
    for node in part.nodes:
        yield node
        for inner in parts_of(node):
            yield from nodes_of(inner)
