"""The command line against a legacy server: it finds out which generation answers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.legacy.fake_server import FakeServer
from tests.peers import legacy_server
from tests.peers.legacy_server import LegacyServer

from resonate_aio.cli.main import cli


@pytest.fixture
async def legacy() -> AsyncIterator[FakeServer]:
    async with FakeServer().running() as server:
        yield server


async def command(server: FakeServer, *arguments: str) -> Result:
    """Run a command beside the server's loop."""
    line = [*arguments, "-S", server.url]
    return await asyncio.to_thread(CliRunner().invoke, cli, line)


async def shown(server: FakeServer, *arguments: str) -> Any:
    result = await command(server, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_promises_are_created_settled_and_found(legacy: FakeServer) -> None:
    made = await shown(legacy, "promises", "create", "p1", "--value", '{"a": 1}')
    assert (made["state"], made["param"]["data"]) == ("pending", {"a": 1})
    assert (await command(legacy, "promises", "resolve", "p1", "--value", "ok")).exit_code == 0
    got = await shown(legacy, "promises", "get", "p1")
    assert (got["state"], got["value"]["data"]) == ("resolved", "ok")
    late = await command(legacy, "promises", "cancel", "p1")
    assert (late.exit_code, "was resolved already" in late.stderr) == (1, True)
    found = await shown(legacy, "promises", "search", "--state", "resolved")
    assert [promise["id"] for promise in found["promises"]] == ["p1"]
    assert (await command(legacy, "promises", "get", "absent")).exit_code == 1


async def test_an_invocation_is_what_its_workers_read(legacy: FakeServer) -> None:
    line = ["invoke", "i1", "--func", "greet", "--arg", "you", "--target", "workers"]
    assert (await command(legacy, *line)).exit_code == 0
    [created] = legacy.asked("POST", "/promises")
    assert created["tags"]["resonate:invoke"] == "poll://any@workers"
    data = json.loads(base64.b64decode(created["param"]["data"]))
    assert data == {"func": "greet", "args": ["you"], "kwargs": {}, "version": 0}, "the newest"
    assert (await command(legacy, *line)).stderr == "", "it is the same"


async def test_a_tree_goes_by_the_tags_of_its_clients(legacy: FakeServer) -> None:
    await command(legacy, "invoke", "r", "--func", "root")
    for n in (2, 1, 10):
        tags = ["--tag", "resonate:root=r", "--tag", "resonate:parent=r"]
        await command(legacy, "promises", "create", f"r.{n}", *tags)
    root = await shown(legacy, "tree", "r")
    assert [child["id"] for child in root["children"]] == ["r.1", "r.2", "r.10"]


async def test_what_it_cannot_do_is_said(legacy: FakeServer) -> None:
    refused = await command(legacy, "tasks", "search")
    assert refused.exit_code == 1
    assert str(refused.exception) == "this server does not list tasks (501)"


@pytest.mark.skipif(legacy_server.program() is None, reason=legacy_server.ABSENT)
def test_a_real_server(tmp_path: Path) -> None:
    """What is asked for again is recognised, though the server was told version 0."""
    server = LegacyServer(tmp_path)
    server.start()
    try:
        schedule = ["schedules", "create", "s", "--cron", "@daily", "--func", "f"]
        for line in (schedule, ["invoke", "i", "--func", "f"]):
            for more, is_new in (([], True), ([], True), (["--arg", "1"], False)):
                done = CliRunner().invoke(cli, [*line, *more, "-S", server.url])
                assert done.exit_code == 0, done.exception
                assert ("exists already" not in done.stderr) == is_new
    finally:
        server.stop()
