"""What the README shows is what happens: its Python is run, its output compared."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from resonate_aio import Context, Handle, Promise, Resonate
from resonate_aio.client.promises import Promises
from resonate_aio.runtime.options import LOCAL_KEYS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
TABLES = "\n".join(line for line in README.splitlines() if line.startswith("|"))
CONSOLE = re.findall(r"^```console\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("RESONATE_")},
    "PYTHONPATH": str(ROOT / "src"),
    "PYTHONUNBUFFERED": "1",
    "PYTHONWARNINGS": "error",
}


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "shop.py"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (0, "")
    return out.splitlines()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    quickstart = [snippet for snippet in SNIPPETS if "shop.db" in snippet]
    assert len(quickstart) == 1
    (tmp_path / "shop.py").write_text(quickstart[0])
    return tmp_path


def shown() -> list[list[str]]:
    """What the README says the three runs print, one list each."""
    (session,) = [block for block in CONSOLE if "$ python shop.py" in block]
    return [run.splitlines()[1:] for run in session.split("$ ")[1:]]


def test_quickstart_across_kill_9_prints_what_the_readme_shows(shop: Path) -> None:
    killed, resumed, recorded = shown()

    first = start(shop)
    assert first.stdout is not None
    assert first.stdout.readline().rstrip() == killed[0] == "charging 42"
    # The charge is recorded by its next commit: a person takes longer to type kill than that.
    try:
        rest, _ = first.communicate(timeout=1)
    except subprocess.TimeoutExpired:
        first.send_signal(signal.SIGKILL)
        rest, _ = first.communicate()
    assert (first.returncode, rest) == (-signal.SIGKILL, "")
    assert killed[1:] == ["Killed"]  # the shell says so

    assert ended(start(shop)) == resumed == ["shipping 42", "receipt-42 parcel-42"]
    assert ended(start(shop)) == recorded == ["receipt-42 parcel-42"]


def test_readme_has_snippets_and_every_one_is_python() -> None:
    assert SNIPPETS
    for snippet in SNIPPETS:
        compile(snippet, "README.md", "exec")


def test_make_verbs_the_readme_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for verb in re.findall(r"`?make (\w+)`?", README):
        if verb in {"alone", "and"}:
            continue
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


def namespace_of_the_quickstart() -> dict[str, Any]:
    """What the later snippets build on, with everything in memory."""
    quickstart = next(snippet for snippet in SNIPPETS if "shop.db" in snippet)
    in_memory = quickstart.replace('Resonate.local(path="shop.db")', "Resonate()")
    names: dict[str, Any] = {"__name__": "shop"}
    exec(compile(in_memory, "README.md", "exec"), names)
    return names


def snippet_with(text: str) -> str:
    found = [str(snippet) for snippet in SNIPPETS if text in snippet]
    assert len(found) == 1
    return found[0]


async def test_aiohttp_snippet_answers_202_and_reports() -> None:
    names = namespace_of_the_quickstart()
    exec(compile(snippet_with("resonate_aio.aiohttp"), "README.md", "exec"), names)
    async with TestClient(TestServer(names["app"])) as client:
        answer = await client.post("/orders/42")
        assert (answer.status, answer.headers["Location"]) == (202, "/orders/42")
        report = await (await client.get("/orders/42")).json()
        assert report == {"id": "order-42", "state": "pending"}


def test_testing_snippet_passes() -> None:
    names = namespace_of_the_quickstart()
    exec(compile(snippet_with("crash_everywhere"), "README.md", "exec"), names)
    tests = [name for name in names if name.startswith("test_")]
    assert len(tests) == 2
    for name in tests:
        names[name]()


def test_every_snippet_is_run() -> None:
    """Mission P25: no sample that is only text."""
    assert len(SNIPPETS) == 3


def test_the_names_in_the_tables_exist() -> None:
    """What the README calls by name is there: `ctx.run`, `handle.done()`, `.created()`."""
    owners: dict[str, type] = {
        "resonate": Resonate,
        "Resonate": Resonate,
        "ctx": Context,
        "handle": Handle,
        "promise": Promise,
    }
    called = re.findall(r"\b(resonate|Resonate|ctx|handle|promise)\.([a-z_]+)", TABLES)
    assert len(called) > 30
    for owner, name in called:
        assert hasattr(owners[owner], name), f"{owner}.{name}"
    for name in re.findall(r"`\.(\w+)`", TABLES):
        assert hasattr(Promises, name), name


def test_the_options_in_the_tables_exist() -> None:
    def check(keys: str, allowed: frozenset[str]) -> None:
        named = set(re.findall(r"(\w+)=\.\.\.", keys))
        assert named
        assert named <= allowed, named - allowed

    (client,) = re.findall(r"`resonate\.options\((.*?)\)`", TABLES)
    check(client, frozenset(inspect.signature(Resonate.options).parameters))
    (call,) = re.findall(r"`\.options\((.*?)\)`", TABLES)
    check(call, LOCAL_KEYS)


def test_the_examples_in_the_table_are_all_there_are() -> None:
    (table,) = re.findall(r"^## Examples\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", table)) - {"kill"}
    assert named == {path.stem for path in (ROOT / "examples").glob("*.py")}
