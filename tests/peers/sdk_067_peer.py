"""Run by the Python of an environment with resonate-sdk 0.6.7: a worker, or one call.

    work GROUP STORE_PORT POLL_PORT LOG         say "ready" and work until killed
    call GROUP STORE_PORT POLL_PORT ID FUNC ARGS   call a function of a group, print what came

`ARGS` is a JSON array. What came is a line of JSON: `{"value": ...}` or `{"error": text}`.
"""
# mypy: ignore-errors
# ruff: noqa: T201

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from resonate import Resonate
from shared_functions import functions


def client(group: str, store_port: str, poll_port: str) -> Resonate:
    return Resonate.remote(
        host="http://127.0.0.1",
        store_port=store_port,
        message_source_port=poll_port,
        group=group,
        ttl=1,
    )


def work(group: str, store_port: str, poll_port: str, log: str) -> None:
    resonate = client(group, store_port, poll_port)
    for function in functions(group, Path(log)):
        resonate.register(function)
    resonate.start()
    print("ready", flush=True)
    threading.Event().wait()


def call(group: str, store_port: str, poll_port: str, id: str, func: str, args: str) -> None:
    resonate = client("callers", store_port, poll_port)
    try:
        value = resonate.options(target=f"poll://any@{group}").rpc(id, func, *json.loads(args))
        print(json.dumps({"value": value}), flush=True)
    except Exception as error:  # noqa: BLE001  whatever arrived is what is asked about
        print(json.dumps({"error": str(error)}), flush=True)
    os._exit(0)  # the SDK's threads would keep it


if __name__ == "__main__":
    {"work": work, "call": call}[sys.argv[1]](*sys.argv[2:])
