"""What the pages in docs/ show is what happens: their Python is run, its output compared."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name != "mission.md")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


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
