from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result
from tests.cli.processes import Served, served

from resonate_aio.cli.main import cli

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """One server for the tests of a file: each uses ids of its own."""
    with served("dev") as running:
        yield running


@pytest.fixture
def command(server: Served, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process, against the server."""
    for name in [name for name in os.environ if name.startswith("RESONATE_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, server_url: str | None = server.url, stdin: str = "") -> Result:
        where = [] if server_url is None else ["-S", server_url]
        return CliRunner().invoke(cli, [*arguments, *where], input=stdin)

    return run
