"""Fingerprints: how a replay notices that the program has changed (law 5, S43).

A fingerprint is one line of text: kind, function, version and a digest of the arguments.
It is written into the headers of the create and compared when the same id is asked again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b

from ..errors import NonDeterminismError, ValueCodecError
from ..protocol.records import Promise, is_timer, target_of
from ..protocol.values import canonical, decode, shown
from .call import CallKind
from .log import EXPLICIT_HEADER, FINGERPRINT_HEADER, VOLATILE_HEADER

_DIGEST_BYTES = 8
_SHORT_CHARACTERS = 16
_MOST_KEPT = 200
_TAIL = re.compile(r"(.*?)\|(\d+)\|(.*)", re.DOTALL)
_ELSEWHERE = ("rpc", "detached")
"""Kinds of calls whose promises are executions of their own."""


def fingerprint(prefix: str, data: str | None) -> str:
    """The fingerprint of a call: `kind|name|version|digest of the arguments`.

    Args:
        prefix: What `fingerprint_prefix` gave for its function.
        data: Its encoded arguments; short ones are their own digest.
    """
    if data is None:
        return prefix
    if len(data) <= _SHORT_CHARACTERS and "{" not in data:
        return prefix + data
    return prefix + digest(data)


def digest(data: str) -> str:
    """The digest of encoded arguments."""
    return blake2b(canonical(data), digest_size=_DIGEST_BYTES).hexdigest()


def fingerprint_prefix(kind: str, name: str, version: int) -> str:
    """The part of a fingerprint that all calls of one kind, function and version share."""
    return f"{kind}|{name}|{version}|"


def check(
    record: Promise,
    asked: str,
    data: str | None,
    where: Callable[[], str],
    *,
    arguments_count: bool,
) -> None:
    """Compare a recorded call with the one a replay asks for under the same id.

    Records without a fingerprint (other clients wrote them) are not checked, but for that of an
    execution which is none of this call. `where` names the asking line, for the message.

    Raises:
        NonDeterminismError: Kind, function, version or (if they count) arguments differ, or the
            id is that of an execution of something else.
    """
    recorded = (record.param.headers or {}).get(FINGERPRINT_HEADER)
    if recorded is None:
        _check_begun(record, asked, where)
        return
    if recorded == asked:
        return
    old, new = _parts(recorded), _parts(asked)
    if old[:3] != new[:3]:
        raise NonDeterminismError(
            f"call {record.id!r} was recorded as {_shown(old)}, but the program now asks for "
            f"{_shown(new)}{where()}: the code changed while this execution was running. Finish it "
            "with the old code, or give the new code a new version"
        )
    if arguments_count:
        raise NonDeterminismError(
            f"call {record.id!r} ({_shown(old)}) was recorded with "
            f"{_arguments(record.param.data, old)}, but the program now passes {shown(data or '')}"
            f"{where()}: use ctx.time, ctx.random or a recorded value, or "
            ".options(check_arguments=False) if they may differ"
        )


def _check_begun(record: Promise, asked: str, where: Callable[[], str]) -> None:
    """An id such as `order.1` that was given to an execution is not the first call of `order`."""
    asks_for = _parts(asked)
    kind, name = asks_for[:2]
    if target_of(record) is None or is_timer(record) or kind == "promise":
        return
    begun = function_of(record)
    if kind in _ELSEWHERE and begun in (None, name):
        return
    raise NonDeterminismError(
        f"call {record.id!r} ({_shown(asks_for)}){where()} would have the id of an execution"
        f"{f' of {begun!r}' if begun else ''} that was begun apart from it: what follows an id "
        "after a dot names the calls of that id's function. Give one of the two another id"
    )


def is_local(record: Promise) -> bool:
    """Whether the record is of a call whose function runs in the execution that made it."""
    recorded = (record.param.headers or {}).get(FINGERPRINT_HEADER, "")
    return recorded.startswith(f"{CallKind.RUN}|")


def function_of(record: Promise) -> str | None:
    """The function that the promise of an execution names; None where it names none."""
    try:
        data = decode(record.param.data)
    except ValueCodecError:
        return None
    name = data.get("func") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None


def kept_in_mark(data: str | None) -> str | None:
    """What a log record keeps of the arguments: they are for messages, so only short ones."""
    return data if data is not None and len(data) <= _MOST_KEPT else None


def _arguments(data: str | None, recorded: tuple[str, str, str, str]) -> str:
    if data is None and recorded[3]:
        return "other arguments, too long for its log record to keep"
    return f"arguments {shown(data or '')}"


def check_place(
    record: Promise, explicit_id: str | None, where: Callable[[], str], *, durable: bool
) -> None:
    """Compare where a recorded call's outcome is kept with where a replay would look for it.

    A call with an explicit id, or one that is not durable, leaves a record without a value under
    its derived id (S4): taken for the call's own it would be an outcome nobody computed, and
    another explicit id would run the call again beside its recorded outcome.

    Args:
        explicit_id: The id the program now gives the call; None for none.
        durable: Whether the program now asks for its outcome to be recorded.

    Raises:
        NonDeterminismError: The outcome is kept elsewhere, or was not to be kept.
    """
    headers = record.param.headers or {}
    if FINGERPRINT_HEADER not in headers:
        return
    old = _place(headers.get(EXPLICIT_HEADER), durable=VOLATILE_HEADER not in headers)
    new = _place(explicit_id, durable=durable)
    if old == new:
        return
    absent = "without an explicit id" if "explicit" in old + new else "without durable=False"
    raise NonDeterminismError(
        f"call {record.id!r} ({_shown(_parts(headers[FINGERPRINT_HEADER]))}) was recorded "
        f"{old or absent}, but the program now asks for it {new or absent}{where()}: the code "
        "changed while this execution was running. Finish it with the old code, or give the new "
        "code a new version"
    )


def _place(explicit_id: str | None, *, durable: bool) -> str:
    if explicit_id is not None:  # its outcome is recorded there, whatever `durable` says
        return f"under the explicit id {explicit_id!r}"
    return "" if durable else "with durable=False"


def _parts(text: str) -> tuple[str, str, str, str]:
    kind, _, rest = text.partition("|")
    name, version, digest = "", "", rest
    # A name may hold a bar; version and digest follow the last bar before a number.
    match = _TAIL.match(rest)
    if match is not None:
        name, version, digest = match.groups()
    return kind, name, version, digest


def _shown(parts: tuple[str, str, str, str]) -> str:
    kind, name, version, _ = parts
    return f"{kind} of {name!r} version {version}" if name else kind
