"""What the pages in docs/ show is what happens: their Python is run, its output compared."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name != "mission.md")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

TREE = "resonate-aio tree order-42"
INVOKE = "resonate-aio invoke charge-7 --func charge --arg 7 --target bank --follow"
USUAL = "http://127.0.0.1:8001"
WAIT_S = 30.0


class Snippet(NamedTuple):
    """A piece of Python, the line it begins at, and what the page says it prints."""

    code: str
    line: int
    prints: str | None


def snippets_of(page: str) -> list[Snippet]:
    """The Python of a page; a text block right after one is what it prints."""
    text = (ROOT / "docs" / page).read_text()
    found: list[Snippet] = []
    end = 0
    for block in _BLOCK.finditer(text):
        kind, code = block.groups()
        line = text.count("\n", 0, block.start()) + 1
        if kind == "python":
            found.append(Snippet(code, line, None))
        elif kind == "text":
            assert found, f"{page}:{line}: output of nothing"
            assert not text[end : block.start()].strip(), f"{page}:{line}: output of what?"
            found[-1] = found[-1]._replace(prints=code)
        end = block.end()
    return found


def run(snippet: Snippet, page: str, names: dict[str, Any], runner: asyncio.Runner) -> None:
    """Run a snippet, `await` at the margin included, and the tests that it defines."""
    tree = ast.parse("\n" * snippet.line + snippet.code, page)
    before = set(names)
    code = compile(tree, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:

        async def margin() -> None:
            await eval(code, names)

        runner.run(margin())
    else:
        exec(code, names)
    for name in names.keys() - before:
        if name.startswith("test_"):
            names[name]()


@pytest.mark.parametrize("page", PAGES)
def test_the_programs_of_a_page_print_what_it_says(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType(f"{Path(page).stem}_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where its errors are found again
    names = vars(module)
    snippets = snippets_of(page)
    assert snippets, "a page without a program says nothing that could be checked"
    with asyncio.Runner() as runner:
        for snippet in snippets:
            run(snippet, page, names, runner)
            printed = capsys.readouterr().out
            where = f"{page}:{snippet.line}"
            assert (where, printed) == (where, snippet.prints or "")


def test_links_between_the_pages_lead_somewhere() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


class Shell:
    """Programs in a folder, as a person runs them in several shells."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []
        self._environment = {
            **{name: text for name, text in os.environ.items() if "RESONATE" not in name},
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def serve(self) -> None:
        """Start a server; the commands that follow ask it."""
        server = self.start("-m", "resonate_aio.cli", "serve", "--port", "0")
        assert server.stdout is not None
        line = server.stdout.readline()
        (url,) = re.findall(r"http://[\d.:]+", line)
        self._environment["RESONATE_URL"] = url

    def write(self, name: str, program: str) -> None:
        """Write a program, for the server that was started in place of the usual one."""
        assert USUAL in program
        (self._folder / name).write_text(program.replace(USUAL, self._environment["RESONATE_URL"]))

    def command(self, line: str) -> str:
        """What a `resonate-aio` command prints."""
        name, *arguments = shlex.split(line)
        assert name == "resonate-aio"
        process = self.start("-m", "resonate_aio.cli", *arguments)
        out, err = process.communicate(timeout=WAIT_S)
        return out + err

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def session_with(path: Path, command: str) -> list[tuple[str, str]]:
    """The commands of a console block and what each prints."""
    blocks = [text for kind, text in _BLOCK.findall(path.read_text()) if kind == "console"]
    (session,) = [text for text in blocks if f"$ {command}\n" in text]
    parts = [part.partition("\n") for part in session.split("$ ")[1:]]
    return [(line, printed) for line, _, printed in parts]


def timeless(text: str) -> str:
    """The text without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "DATE", text)
    return re.sub(r"\b\d+(\.\d+)?m?s\b", "TIME", text)


def test_two_programs_and_a_person_in_another_shell(shell: Shell) -> None:
    """Issue 5, 9: the tree of a live call, and the promise of a human, as the pages show them."""
    bank, shop = (snippet.code for snippet in snippets_of("servers.md")[:2])
    session = session_with(ROOT / "docs" / "servers.md", TREE)
    in_readme = session_with(ROOT / "README.md", TREE)
    assert in_readme == session[: len(in_readme)]
    tree, resolve, tree_after = session

    shell.serve()
    shell.write("bank.py", bank)
    shell.write("shop.py", shop)
    shell.start("bank.py")
    caller = shell.start("shop.py")
    until_s = time.monotonic() + WAIT_S
    while "approval-42" not in (printed := shell.command(tree[0])):
        assert time.monotonic() < until_s, printed
    assert timeless(printed) == timeless(tree[1])
    assert timeless(shell.command(resolve[0])) == timeless(resolve[1])
    out, err = caller.communicate(timeout=WAIT_S)
    assert (out, err) == ("receipt-42, approved by Ada\n", "")
    assert timeless(shell.command(tree_after[0])) == timeless(tree_after[1])

    ((invoke, shown),) = session_with(ROOT / "docs" / "servers.md", INVOKE)
    assert timeless(shell.command(invoke)) == timeless(shown)
