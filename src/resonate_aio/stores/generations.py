"""Which generation of server answers at a URL: two requests that change nothing tell.

The current generation answers an envelope to `POST /` whatever it thinks of the request; the
legacy one has no such route, but knows `GET /promises/{id}`, which the current one refuses
with 410. Anything else is trouble, and trouble is no answer: it is asked again. This file
knows no store.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import orjson

from ..protocol.envelope import salvaged
from .http_answers import Answer, TroubleError
from .http_session import HttpSession

_PROBE: Final = "resonate-aio.hello"
_ROUTE: Final = f"/promises/{_PROBE}"
"""What only the legacy generation serves."""

_NO_ROUTE: Final = frozenset({404, 405})
_GONE: Final = 410


class Generation(Enum):
    """A generation of Resonate servers."""

    CURRENT = auto()  # one envelope endpoint
    LEGACY = auto()  # REST


async def generation_at(http: HttpSession) -> Generation:
    """The generation of the server of this session; waits until one answers.

    Raises:
        ResonateStoreError: The server refuses the credentials.
    """
    while True:
        seen, _ = await http.exchange("POST", "/", _read_envelope, body=_question)
        if seen is None:
            # A proxy may answer 404 for a server that is down: only both answers together count.
            seen, _ = await http.exchange("GET", _ROUTE, _read_rest)
        if seen is not None:
            return seen


def _question(token: str | None) -> bytes:
    head = {"corrId": "hello", "version": "2026-04-01"}
    if token is not None:
        head["auth"] = token
    return orjson.dumps({"kind": "promise.get", "head": head, "data": {"id": _PROBE}})


def _read_envelope(answer: Answer) -> Generation | None:
    found = _json(answer)
    if isinstance(found, dict) and isinstance(found.get("head"), dict):
        kind, _ = salvaged(found)
        if kind == "promise.get" or answer.status >= 400:
            return Generation.CURRENT
    if answer.status in _NO_ROUTE:
        return None
    raise TroubleError(f"status {answer.status} to a first envelope: is it a Resonate server?")


def _read_rest(answer: Answer) -> Generation | None:
    found = _json(answer)
    if answer.status == _GONE:
        return Generation.CURRENT
    if answer.status < 500 and isinstance(found, dict) and ("error" in found or "id" in found):
        return Generation.LEGACY
    raise TroubleError(f"status {answer.status} from {_ROUTE}: is it a Resonate server?")


def _json(answer: Answer) -> object:
    try:
        found: object = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return found
