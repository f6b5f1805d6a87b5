"""Fingerprints: how a replay notices that the program has changed (law 5, S43).

A fingerprint is one line of text: kind, function, version and a digest of the arguments.
It is written into the headers of the create and compared when the same id is asked again.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from ..errors import NonDeterminismError
from ..protocol.records import Promise
from ..protocol.values import canonical, shown
from .log import FINGERPRINT_HEADER

_DIGEST_BYTES = 8


def fingerprint(kind: str, name: str, version: int, data: str | None) -> str:
    """The fingerprint of a call: `kind|name|version|digest of the arguments`."""
    if data is None:
        return f"{kind}|{name}|{version}|"
    raw = data.encode() if "{" not in data else canonical(data)
    return f"{kind}|{name}|{version}|{blake2b(raw, digest_size=_DIGEST_BYTES).hexdigest()}"


def check(
    record: Promise,
    asked: str,
    data: str | None,
    where: Callable[[], str],
    *,
    arguments_count: bool,
) -> None:
    """Compare a recorded call with the one a replay asks for under the same id.

    Records without a fingerprint (other clients wrote them) are not checked. `where` names
    the asking line, for the message.

    Raises:
        NonDeterminismError: Kind, function, version or (if they count) arguments differ.
    """
    recorded = (record.param.headers or {}).get(FINGERPRINT_HEADER)
    if recorded is None or recorded == asked:
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
            f"call {record.id!r} ({_shown(old)}) was recorded with arguments "
            f"{shown(record.param.data or '')}, but the program now passes {shown(data or '')}"
            f"{where()}: use ctx.time, ctx.random or a recorded value, or "
            ".options(check_arguments=False) if they may differ"
        )


def _parts(text: str) -> tuple[str, str, str, str]:
    kind, _, rest = text.partition("|")
    rest, _, digest = rest.rpartition("|")
    name, _, version = rest.rpartition("|")
    return kind, name, version, digest


def _shown(parts: tuple[str, str, str, str]) -> str:
    kind, name, version, _ = parts
    return f"{kind} of {name!r} version {version}" if name else kind
