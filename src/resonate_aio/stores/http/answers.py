"""What an HTTP answer says by itself, whatever was asked: done, refused, or trouble.

Trouble is no answer: the request is sent again (law 8). This file opens no connection and
knows no promise and no task.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec
import orjson
from yarl import URL

from ...errors import ResonateStoreError

REFUSED: Final = frozenset({401, 403})
"""By these a server refuses credentials."""

TOO_LARGE: Final = 413
"""By this a server, or a proxy in front of one, refuses a request for its length."""

_LARGE_BYTES: Final = 64 * 1024
_TOO_MANY: Final = 429
_NOT_SERVED: Final = 501
_SHOWN: Final = 200


class Answer(msgspec.Struct, frozen=True):
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TroubleError(Exception):
    """An answer that says nothing about the request: it is sent again.

    Args:
        reason: For the log.
        after_s: How long the other side asked to wait.
        untouched: The request was surely not carried out.
    """

    def __init__(self, reason: str, *, after_s: float = 0.0, untouched: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s
        self.untouched = untouched

    def told(self, url: str, what: str) -> str:
        """What happened to a request, for the log and for an error."""
        return f"{url}: {what}: {self.reason}" if what else f"{url}: {self.reason}"


class NoServerError(TroubleError):
    """Nobody took the connection, so nothing was asked.

    Args:
        reason: Why, in the system's words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason, untouched=True)

    def told(self, url: str, what: str) -> str:
        """The same whatever was to be asked: one outage is one thing."""
        return (
            f"no server at {url} ({self.reason}): start one (`resonate-aio serve`), or check url= "
            "and RESONATE_URL"
        )


def refusal(url: str, answer: Answer) -> ResonateStoreError:
    """The error that says the server refuses the credentials."""
    return ResonateStoreError(
        f"the server at {url} refuses the credentials ({answer.status}"
        f"{reason_in(answer)}): check token= or auth=, or RESONATE_TOKEN",
        answer.status,
    )


def check(url: str, answer: Answer, refusals: frozenset[int]) -> None:
    """What a status says by itself, whoever sent it.

    Args:
        url: Of the server, for the message.
        refusals: The statuses by which it refuses credentials and nothing else.

    Raises:
        ResonateStoreError: The credentials are refused.
        TroubleError: It is no answer to what was asked.
    """
    status = answer.status
    if status in refusals:
        raise refusal(url, answer)
    if status == _TOO_MANY:
        raise TroubleError("429 too many requests", after_s=retry_after_s(answer), untouched=True)
    if status >= 500 and status != _NOT_SERVED:
        raise TroubleError(f"status {status}{reason_in(answer)}", after_s=retry_after_s(answer))


def too_large(answer: Answer, sent_bytes: int) -> str | None:
    """What to tell who sent a request that is too long, or None if the answer does not say so.

    Servers refuse a long body before they read it, so not in a form of their own, and so do
    proxies. It counts only of a body that is really long: no proxy that lets anything through
    stops at less, and one that is set wrong, or stands in for a server that is away, must not
    decide what becomes of a step (law 8). And only with this status: a bare 400 is what a
    Resonate server says of a body that was cut on its way, which is to be sent again.

    Args:
        answer: One that has not the form of a Resonate server's.
        sent_bytes: The length of the request's body.
    """
    if answer.status != TOO_LARGE or sent_bytes < _LARGE_BYTES:
        return None
    return (
        f"a request of {sent_bytes:,} bytes is larger than the server, or a proxy in front of it, "
        "takes: keep what is large elsewhere, and pass its name"
    )


def in_words(error: OSError) -> str:
    """What the system says about a failed connection, without the addresses that it tried."""
    if error.errno is not None and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno).lower()
    return error.strerror or str(error)


def retry_after_s(answer: Answer) -> float:
    """What a Retry-After header asks for, in seconds; 0 where there is none to read."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 9:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)


def reason_in(answer: Answer) -> str:
    """The start of a short textual answer, for a message; nothing of a page of HTML."""
    text = answer.body[:_SHOWN].decode(errors="replace").strip()
    try:
        found = orjson.loads(answer.body) if text.startswith("{") else None
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        text = next((str(found[name]) for name in ("data", "error") if name in found), text)
        text = text[:_SHOWN]
    if not text or "<" in text:
        return ""
    return ", " + (text if text.isprintable() else ascii(text))


def checked_url(url: str) -> str:
    """The URL of a server, without the slash at its end.

    Raises:
        TypeError, ValueError: It is none, or carries what must not be in one (law 17).
    """
    if not isinstance(url, str):
        raise TypeError(f"url is a string, got {url!r}")
    parts = URL(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.host:
        shown = parts.with_user(None) if parts.host else url
        raise ValueError(f"url must be http://host:port or https://host:port, got {str(shown)!r}")
    if parts.user or parts.password:
        raise ValueError(
            f"url must not carry credentials ({parts.with_user(None)}): give auth= or token="
        )
    if parts.query_string or parts.fragment:
        raise ValueError(f"url must have no query and no fragment, got {url!r}")
    return str(parts).rstrip("/")
