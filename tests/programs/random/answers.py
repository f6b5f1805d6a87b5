"""What a random program may give, whatever the instants at which it was killed.

Most of a program is exact: what steps give, who raised, what was caught. What may differ is
how a race ends that was not yet decided for good when the process was killed: nothing of the
loser's or the winner's was recorded, so the next life decides it again (semantics.md, S5).
These are the races, and what binds them all the same:

* a part under a time limit is late or in time. Durable limits go on counting while nobody
  runs: a part that takes longer than its limit is late in every life; and a limit that
  nothing can reach is never reached;
* a helper that is cancelled after a durable sleep has ended by then or not, likewise;
* of several steps that start together, the quickest is first;
* the helpers of a failing `TaskGroup`: one or more of those that raise did so.

What no crash may change at all is checked elsewhere, by `crash_everywhere`: a recorded value
stays, a recorded step does not start again. And within one execution a race that was decided
stays decided once anything was recorded that came of it: each call has what its function saw
before as an argument, so a replay that went another way would be a `NonDeterminismError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .generating import GENEROUS_S
from .nodes import (
    Attempt,
    Begin,
    Calls,
    Cancelled,
    Deadline,
    Detached,
    Fails,
    First,
    Flaky,
    Function,
    Gather,
    Group,
    Guarded,
    Limit,
    Node,
    Outside,
    Part,
    Passes,
    Shielded,
    Sleep,
    Step,
    nodes_of,
)

_MARGIN_S = 0.01
_RETRIES_S = 0.2
_RACES = (Cancelled, Deadline, Detached, First, Limit, Shielded)


def is_a_race(program: Part) -> bool:
    """Whether anything in it is decided by time: recorded values may then differ."""
    return any(
        isinstance(node, _RACES)
        or (isinstance(node, Calls) and node.how == "as_completed")
        or (isinstance(node, Gather | Group) and any(part.raises for part in node.parts))
        for node in nodes_of(program)
    )


def admits(part: Part, outcomes: Any) -> str:
    """Why a part cannot give this, or nothing if it can."""
    begun = [node.name for node in part.nodes if isinstance(node, Begin) and node.is_awaited]
    if not isinstance(outcomes, list) or len(outcomes) != len(part.nodes) + len(begun):
        return f"{part.name} gave {outcomes!r}"
    if part.raises:
        return f"{part.name} did not raise"
    for node, outcome in zip(part.nodes, outcomes, strict=False):
        if not _ADMITS[type(node)](node, outcome):
            return f"{node.name} ({type(node).__name__}) gave {outcome!r}"
    if outcomes[len(part.nodes) :] != begun:
        return f"{part.name} was given {outcomes[len(part.nodes) :]!r} for {begun!r}"
    return ""


# -- by kind


def _name(node: Node, outcome: Any) -> bool:
    return bool(outcome == node.name)


def _done(node: Node, outcome: Any) -> bool:
    return bool(outcome == "done")


def _caught(node: Node, outcome: Any) -> bool:
    return bool(outcome == f"caught {node.name}")


def _begun(node: Node, outcome: Any) -> bool:
    return bool(outcome == "begun")


def _attempt(node: Attempt | Guarded, outcome: Any) -> bool:
    if node.body.raises:
        return bool(outcome == f"caught {node.body.name}")
    return not admits(node.body, outcome)


def _function(node: Function, outcome: Any) -> bool:
    if outcome == "cancelled":  # it was cancelled and returned all the same
        return node.on_cancel == "returns"
    if node.body.raises:
        return bool(outcome == f"caught {node.body.name}")
    return not admits(node.body, outcome)


def _gather(node: Gather, outcome: Any) -> bool:
    raising = [part.name for part in node.parts if part.raises]
    if raising:
        return any(outcome == f"caught {name}" for name in raising)
    return _each(node.parts, outcome)


def _group(node: Group, outcome: Any) -> bool:
    raising = {part.name for part in node.parts if part.raises}
    if raising:
        caught = outcome.removeprefix("caught ").split(", ") if isinstance(outcome, str) else ()
        return bool(caught) and raising.issuperset(caught)
    return _each(node.parts, outcome)


def _each(parts: Sequence[Part], outcome: Any) -> bool:
    is_whole = isinstance(outcome, list) and len(outcome) == len(parts)
    return is_whole and not any(map(admits, parts, outcome))


def _calls(node: Calls, outcome: Any) -> bool:
    names = [f"{node.name}.{n}" for n in range(len(node.takes_s))]
    return bool((outcome if node.how == "gather" else sorted(outcome)) == names)


def _first(node: First, outcome: Any) -> bool:
    if not _is_pair(outcome):
        return False
    done, shown = outcome
    ended = [
        text == f"{node.name}.{n}" if is_done else text in (f"{node.name}.{n}", "CancelledError")
        for n, (is_done, text) in enumerate(zip(done, shown, strict=True))
    ]
    quickest_s, next_s = sorted(node.takes_s)[:2]
    is_clear = next_s - quickest_s > _MARGIN_S
    quickest = node.takes_s.index(quickest_s)
    return all(ended) and any(done) and (done[quickest] or not is_clear)


def _is_pair(outcome: Any) -> bool:
    return isinstance(outcome, list) and len(outcome) == 2


def _limit(node: Limit, outcome: Any) -> bool:
    if outcome == "late":
        return node.limit_s < GENEROUS_S
    counts_on = node.is_durable and not node.by_clock
    return (
        _is_pair(outcome)
        and outcome[0] == "in time"
        and not (
            admits(node.body, outcome[1]) or (counts_on and _too_long(node.body, node.limit_s))
        )
    )


def _cancelled(node: Cancelled, outcome: Any) -> bool:
    if outcome == "cancelled":
        return True
    return (
        _is_pair(outcome)
        and outcome[0] == "ended"
        and not (admits(node.body, outcome[1]) or _too_long(node.body, node.after_s))
    )


def _too_long(part: Part, limit_s: float) -> bool:
    """Whether a part that lets cancels through cannot end within a limit that goes on counting."""
    yields = all(not isinstance(n, Function) or n.on_cancel != "returns" for n in nodes_of(part))
    return yields and _least_s(part) > limit_s + _MARGIN_S


def _least_s(part: Part) -> float:
    """What a part takes at least, before any of it is recorded."""
    return part.nap_s + sum(map(_node_least_s, part.nodes))


def _node_least_s(node: Node) -> float:
    if isinstance(node, Flaky):
        return node.takes_s + _RETRIES_S
    if isinstance(node, Step | Fails):
        return node.takes_s
    if isinstance(node, Sleep):
        return node.for_s
    if isinstance(node, Function | Attempt | Guarded):
        return _least_s(node.body)
    if isinstance(node, Calls):
        return max(node.takes_s)
    return 0.0


def _shielded(node: Shielded, outcome: Any) -> bool:
    if outcome == ["late", node.name]:
        return node.limit_s < GENEROUS_S
    return outcome == ["in time", node.name] and node.takes_s <= node.limit_s + _MARGIN_S


def _deadline(node: Deadline, outcome: Any) -> bool:
    # The promise is there first: a crash between the two puts the limit off, never the other way.
    return outcome == "promise" or (outcome == "limit" and node.limit_s < node.promise_s)


_ADMITS: dict[type[Node], Callable[[Any, Any], bool]] = {
    Step: _name,
    Fails: _caught,
    Flaky: _name,
    Sleep: _done,
    Passes: _done,
    Detached: _done,
    Outside: _name,
    Begin: _begun,
    Function: _function,
    Attempt: _attempt,
    Guarded: _attempt,
    Gather: _gather,
    Group: _group,
    Calls: _calls,
    First: _first,
    Limit: _limit,
    Cancelled: _cancelled,
    Shielded: _shielded,
    Deadline: _deadline,
}
