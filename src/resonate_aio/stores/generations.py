"""Which generation of server answers at a URL: two requests that change nothing tell.

The current generation answers an envelope to `POST /` whatever it thinks of the request; the
legacy one has no such route, but refuses `GET /promises/{id}` in a way of its own. What no
Resonate server says may come from a proxy in front of one that is away, so it is asked again
(law 8), and the log says what was found and what to look at. A server that answers at the
root of a URL with a path is no such case: the path is wrong. This file knows no store.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from typing import Final
from urllib.parse import urlsplit

import msgspec
import orjson

from ..backoff import Backoff
from ..errors import ResonateStoreError
from ..outage import Outage
from ..protocol.envelope import salvaged
from .http.answers import REFUSED, Answer
from .http.session import HttpSession

logger = logging.getLogger("resonate_aio.stores.either")

_PROBE: Final = "resonate-aio.hello"
_ROUTE: Final = f"/promises/{_PROBE}"
"""What only the legacy generation serves."""

_LOOK_AT: Final = "check host, port and path in url=, or in RESONATE_URL and RESONATE_HOST"


class Generation(Enum):
    """A generation of Resonate servers."""

    CURRENT = auto()  # one envelope endpoint
    LEGACY = auto()  # REST


class Foreign(msgspec.Struct, frozen=True):
    """An answer that no Resonate server gives.

    Attributes:
        status: The HTTP status.
        location: Where it redirects to; empty if it does not.
    """

    status: int
    location: str = ""

    def __str__(self) -> str:
        return f"{self.status}{self.location and f' to {self.location}'}"


async def generation_at(http: HttpSession) -> Generation:
    """The generation of the server of this session; waits until one answers.

    Raises:
        ResonateStoreError: The server refuses the credentials; or the path of the URL is wrong,
            for a Resonate server answers at its root and none below.
    """
    backoff = Backoff(http.patience.first_s, http.patience.most_s, http.rng)
    outage = Outage()
    while True:
        found = await _asked(http)
        if isinstance(found, Generation):
            return found
        told = f"no Resonate server answers at {http.url} ({found})"
        await _check_root(http, told)
        if outage.failed(asyncio.get_running_loop().time()):
            logger.error("%s: %s; it is asked again until one does", told, _LOOK_AT)
        await asyncio.sleep(backoff.next_s())


async def _asked(
    http: HttpSession, *, tries: int | None = None, refusals: frozenset[int] = REFUSED
) -> Generation | str:
    """The generation, or what was answered instead."""
    first, _ = await http.exchange(
        "POST", "/", _read_envelope, body=_question, tries=tries, refusals=refusals
    )
    if isinstance(first, Generation):
        return first
    # A proxy may answer for a server that is down: only both answers together count.
    second, _ = await http.exchange("GET", _ROUTE, _read_rest, tries=tries, refusals=refusals)
    if isinstance(second, Generation):
        return second
    return f"POST / is answered with {first}, GET {_ROUTE} with {second}"


async def _check_root(http: HttpSession, told: str) -> None:
    """Look for a Resonate server at the root of a URL that has a path."""
    parts = urlsplit(http.url)
    if not parts.path:
        return
    # Without credentials: at the root they may be somebody else's to see (law 17).
    root = HttpSession(f"{parts.scheme}://{parts.netloc}", patience=http.patience, rng=http.rng)
    await root.open()
    try:
        found = await _asked(root, tries=1, refusals=frozenset())
    except ResonateStoreError:
        return
    finally:
        await root.close()
    if isinstance(found, Generation):
        raise ResonateStoreError(
            f"{told}, but one of the {found.name.lower()} generation answers at {root.url}: "
            f"remove {parts.path!r} from the URL"
        )


def _question(token: str | None) -> bytes:
    head = {"corrId": "hello", "version": "2026-04-01"}
    if token is not None:
        head["auth"] = token
    return orjson.dumps({"kind": "promise.get", "head": head, "data": {"id": _PROBE}})


def _read_envelope(answer: Answer) -> Generation | Foreign:
    found = _json(answer)
    if isinstance(found, dict) and isinstance(found.get("head"), dict):
        kind, _ = salvaged(found)
        if kind == "promise.get" or answer.status >= 400:
            return Generation.CURRENT
    return _foreign(answer)


def _read_rest(answer: Answer) -> Generation | Foreign:
    return Generation.LEGACY if _is_legacy(_json(answer)) else _foreign(answer)


def _is_legacy(found: object) -> bool:
    """Whether this is a promise, or a refusal with a number, as the legacy generation has them.

    A text under "error" is what any web server may say.
    """
    match found:
        case {"id": str(), "state": str(), "timeout": int()}:
            return True
        case {"error": {"code": int(), "message": str()}}:
            return True
        case _:
            return False


def _foreign(answer: Answer) -> Foreign:
    """What is told of it: not where a query, which may be a secret, leads."""
    target = urlsplit(answer.headers.get("Location", ""))
    location = f"{target.scheme}://{target.hostname or ''}{target.path}" if target.scheme else ""
    return Foreign(answer.status, location)


def _json(answer: Answer) -> object:
    try:
        found: object = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return found
