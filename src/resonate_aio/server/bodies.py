"""Request bodies: read within bounds of size, of time and of memory, and decoded.

A refusal is a status and a line of text; nothing here raises for what a client did.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from aiohttp import web

from .limits import Limits
from .metrics import Metrics

JSON: Final = "application/json"

Read = tuple[int, str, Any]
"""0 and the decoded body, or a status and why there is none."""


class Bodies:
    """Reads the bodies of one server's requests."""

    __slots__ = ("_held_bytes", "_limits", "_metrics")

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._held_bytes = 0

    async def read(self, request: web.BaseRequest) -> Read:
        """The decoded body of a request.

        Raises:
            ConnectionError: The client went away.
        """
        refused = self._refused(request)
        if refused is not None:
            return refused
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = bytearray()
        held = 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                while chunk := await request.content.readany():
                    if len(body) + len(chunk) > self._limits.body_bytes:
                        return self._too_large()
                    if self._held_bytes + len(chunk) > self._limits.bodies_bytes:
                        return 503, "too many requests at a time", None
                    held += len(chunk)
                    self._held_bytes += len(chunk)
                    body += chunk
        except web.RequestPayloadError:
            return 400, "the body is not what its headers say", None
        except TimeoutError:
            self._metrics.cut_off.add("body")
            return 408, f"the body must arrive within {self._limits.body_s:g} seconds", None
        finally:
            self._held_bytes -= held
        try:
            return 0, "", orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return 400, f"the body is not JSON: {error}", None

    def _refused(self, request: web.BaseRequest) -> Read | None:
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != JSON:  # what a form in somebody's web page can send is something else
            return 415, f"Content-Type must be {JSON}", None
        if "Content-Encoding" in request.headers:
            return 415, "Content-Encoding is not served here", None
        if "Content-Length" in request.headers and "Transfer-Encoding" in request.headers:
            return 400, "a body has either a length or chunks", None
        if (request.content_length or 0) > self._limits.body_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> Read:
        return 413, f"the body must not exceed {self._limits.body_bytes} bytes", None
