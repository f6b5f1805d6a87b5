"""Who asks: a token, or a user with a password that no command line shows (law 17)."""

from __future__ import annotations

import asyncio
import base64
import os
import pty
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from tests.cli.processes import COMMAND, environment, run
from tests.legacy.fake_server import FakeServer
from tests.peers import legacy_server
from tests.peers.legacy_server import LegacyServer

from resonate_aio.cli.main import cli

USER, PASSWORD, TOKEN = "ann", "open: sesame", "a-secret-of-enough-characters"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
BEARER = f"Bearer {TOKEN}"


class Guarded(FakeServer):
    """A legacy server that asks for credentials."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = BASIC
        self.meddle = self._judge

    async def _judge(self, request: web.Request, body: Any) -> web.Response | None:
        if request.headers.get("Authorization") == self.takes:
            return None
        return web.json_response({"error": "unauthorized"}, status=401)


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    server = Guarded()
    async with server.running():
        yield server


async def command(server: FakeServer, *arguments: str, **env: str) -> Result:
    """List promises, beside the server's loop, with nothing else in the environment."""
    gone = {name: None for name in os.environ if name.startswith("RESONATE_")}
    line = ["promises", "search", "-S", server.url, *arguments]
    return await asyncio.to_thread(CliRunner().invoke, cli, line, env={**gone, **env})


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    return str(file)


async def test_a_user_and_a_password(guarded: Guarded, secret: str) -> None:
    """As a client of the library: by the environment, or by what is given."""
    both = {"RESONATE_USERNAME": USER, "RESONATE_PASSWORD": PASSWORD}
    named = {"RESONATE_USERNAME": USER}
    wrong = {"RESONATE_USERNAME": "bob", "RESONATE_PASSWORD": "wrong"}
    for arguments, env in (
        ([], both),
        (["--user", USER], {"RESONATE_PASSWORD": PASSWORD}),
        (["--user", USER, "--password-file", secret], wrong),
        (["--password-file", secret], named),
        (["--user", USER], {**both, "RESONATE_USERNAME": "bob", "RESONATE_TOKEN": TOKEN}),
    ):
        done = await command(guarded, *arguments, **env)
        assert (done.exit_code, done.stderr) == (0, ""), (arguments, env, done.exception)
        assert PASSWORD not in done.output


async def test_a_token_wins_over_a_user_of_the_environment(
    guarded: Guarded, tmp_path: Path
) -> None:
    guarded.takes = BEARER
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    both = {"RESONATE_USERNAME": USER, "RESONATE_PASSWORD": PASSWORD}
    for arguments, env in (
        ([], {**both, "RESONATE_TOKEN": TOKEN}),
        (["--token-file", str(file)], {**both, "RESONATE_TOKEN": "another"}),
        (["--token", TOKEN], both),
    ):
        done = await command(guarded, *arguments, **env)
        assert (done.exit_code, "command line" in done.stderr) == (0, "--token" in arguments)
        assert TOKEN not in done.output


async def test_what_is_refused_is_told_in_options(guarded: Guarded) -> None:
    for env in ({}, {"RESONATE_USERNAME": "bob", "RESONATE_PASSWORD": "wrong"}):
        refused = await command(guarded, **env)
        assert (refused.exit_code, refused.output) == (1, "")
        assert str(refused.exception) == (
            f"the server at {guarded.url} refuses the credentials (401, unauthorized): "
            "check --token or --user, or RESONATE_TOKEN"
        )
    half = await command(guarded, RESONATE_PASSWORD=PASSWORD)
    assert "RESONATE_PASSWORD counts only with --user or RESONATE_USERNAME" in str(half.exception)
    assert PASSWORD not in str(half.exception)


@pytest.mark.parametrize(
    ("arguments", "env", "told"),
    [
        (["--user", USER], {}, "--user needs a password: set RESONATE_PASSWORD or --password-file"),
        (["--user", ""], {"RESONATE_PASSWORD": "x"}, "--user is empty"),
        (["--user", "a:b"], {"RESONATE_PASSWORD": "x"}, "--user: a user's name holds no colon"),
        ([], {"RESONATE_USERNAME": "a:b"}, "RESONATE_USERNAME: a user's name holds no colon"),
        (["--user", USER, "--token", "x"], {"RESONATE_PASSWORD": "x"}, "a token or --user"),
        (["--password-file", __file__], {}, "--password-file needs --user or RESONATE_USERNAME"),
        (["--token", "x", "--token-file", __file__], {}, "either --token or --token-file"),
        (["--token", "secret\nmore"], {}, "--token: the token holds control characters"),
        ([], {"RESONATE_TOKEN": "secret\n"}, "RESONATE_TOKEN: the token holds control"),
        (["--token-file", os.devnull], {}, "is empty"),
    ],
)
async def test_wrong_use(arguments: list[str], env: dict[str, str], told: str) -> None:
    """Before anything is sent; and no secret is shown."""
    wrong = await command(FakeServer(), "-S", "http://127.0.0.1:1", *arguments, **env)
    assert wrong.exit_code == 2, wrong.exception
    assert told in wrong.stderr
    assert "secret" not in wrong.stderr


async def test_a_password_is_asked_for_and_not_echoed(guarded: Guarded) -> None:
    """On a terminal: the prompt is no part of the answer."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "promises", "search", "-S", guarded.url, "--user", USER, "--json"),
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
        env=environment(PYTHONWARNINGS="ignore"),  # getpass warns where it has no /dev/tty
        start_new_session=True,
    )
    os.close(theirs)
    try:
        seen = ""
        while "Password of ann: " not in seen:
            seen += (await asyncio.to_thread(os.read, ours, 1_000)).decode()
        os.write(ours, PASSWORD.encode() + b"\n")
        out, _ = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(ours)
    assert (process.returncode, out) == (0, b'{"promises":[],"cursor":null}\n')
    sent = guarded.headers_of("GET", "/promises")
    assert {headers["Authorization"] for headers in sent} == {BASIC}


@pytest.mark.skipif(legacy_server.program() is None, reason=legacy_server.ABSENT)
def test_a_real_server_that_asks_for_a_user(tmp_path: Path) -> None:
    server = LegacyServer(tmp_path, "--api-http-auth", "ann=sesame")
    server.start()
    try:
        line = ["promises", "create", "p", "-S", server.url]
        env = {"RESONATE_USERNAME": "ann", "RESONATE_PASSWORD": "sesame"}
        made = run(*line, **env)
        assert (made.returncode, made.stderr) == (0, "")
        assert run(*line, "--user", "ann", RESONATE_PASSWORD="sesame").returncode == 0
        refused = run(*line)
        assert refused.returncode == 1
        assert "check --token or --user, or RESONATE_TOKEN" in refused.stderr
    finally:
        server.stop()
