"""What a server of the current protocol takes, found out by asking."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from typing import Any, Final

_VERSION: Final = "2026-04-01"
_ANSWER_S: Final = 10.0


def takes_colons(url: str) -> bool:
    """Whether a child's id may continue its origin with a colon (S61).

    The newest public commit refuses that, and sweeps only the timers that carry a target.
    """
    id = f"t{uuid.uuid4().hex}"
    tags = {"resonate:origin": id, "resonate:branch": f"{id}:1"}
    deadline = {"timeoutAt": int(time.time() * 1000) + 1000}
    status, _ = asked(url, "promise.create", {"id": f"{id}:1", "tags": tags, **deadline})
    assert status in {200, 400}, status
    return status == 200


def asked(url: str, kind: str, data: dict[str, Any]) -> tuple[int, Any]:
    """What a server answers to one request: its status and its data."""
    head = {"corrId": "1", "version": _VERSION}
    body = json.dumps({"kind": kind, "head": head, "data": data}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            return answer.status, json.load(answer)["data"]
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)["data"]
