"""Who may speak to the server (law 17): tokens and browsers.

With a token, everything needs it. Without one, the server is on loopback, and the only
stranger that reaches it there is a web page in somebody's browser: a foreign `Host` (DNS
rebinding) and a foreign `Origin` are refused.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from .reach import is_loopback

SHORT_TOKEN: Final = 16
"""A token below this many characters can be guessed; a warning says so."""

_WINDOW_S: Final = 60.0
_PAUSE_S: Final = 1.0
_PEERS: Final = 1_024


class Doorkeeper:
    """Judges tokens, hosts and origins, and slows down those who guess.

    Args:
        token: The secret that everybody must show, or None.
        free_failures: Failures of one peer in a minute that are answered at once.
    """

    __slots__ = ("_failures", "_free_failures", "_token")

    def __init__(self, token: str | None, *, free_failures: int) -> None:
        self._token = None if token is None else token.encode()
        self._free_failures = free_failures
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    @property
    def asks(self) -> bool:
        """Whether a token is needed."""
        return self._token is not None

    def knows(self, token: str | None) -> bool:
        """Whether the token is right, in a time that does not depend on how wrong it is."""
        if self._token is None:
            return True
        if token is None:
            return False
        # On bytes: on text, anything but ASCII raises.
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    def pause_s(self, peer: str, now_s: float) -> float:
        """Note one more failure of a peer; how long its answer waits."""
        since, count = self._failures.pop(peer, (now_s, 0))
        if now_s - since > _WINDOW_S:
            since, count = now_s, 0
        self._failures[peer] = (since, count + 1)
        if len(self._failures) > _PEERS:
            self._failures.popitem(last=False)
        return _PAUSE_S if count >= self._free_failures else 0.0

    def refuses_browser(self, headers: Mapping[str, str], bound_to: str) -> str | None:
        """Why a request that shows no token comes from a foreign web page, or None."""
        host = headers.get("Host", "")
        name = _host_name(host)
        if not (is_loopback(name) or name == bound_to.lower()):
            return f"host {host!r:.100} is not this server: use 127.0.0.1 or localhost"
        origin = headers.get("Origin")
        if origin is not None and origin.rpartition("://")[2] != host:
            return f"origin {origin!r:.100} may not use this server"
        if headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            return "other sites may not use this server"
        return None


def bearer(authorizations: Sequence[str]) -> str | None:
    """The token of the one `Authorization: Bearer` header there is, or None."""
    if len(authorizations) != 1:
        return None
    scheme, _, token = authorizations[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
