"""docs/mission.md: every row is there, every test it names exists and cites its row."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "mission.md").read_text()
ROWS = re.findall(r"^\| ([A-Z]\d+) \| (.+?) \| ([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE)

COUNTS = dict(zip("PCRKHMXTGNE", (26, 23, 13, 24, 6, 11, 28, 7, 7, 7, 16), strict=True))
"""How many rows the list has under each letter."""

STATES = {"shown", "with a peer"}
NEED_A_PEER = {"E15"}
"""What this project's own programs cannot show: its tests need another one, and name it."""

CITATION = re.compile(r"[Mm]ission ([A-Z]\d+(?:(?:, | and )[A-Z]\d+)*)")


@lru_cache
def sources(path: Path) -> dict[str, str]:
    """The test functions of a file, by name."""
    text = path.read_text()
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def cited(source: str) -> set[str]:
    """The rows that a test says it shows."""
    found = CITATION.findall(" ".join(source.split()))
    return {row for several in found for row in re.findall(r"[A-Z]\d+", several)}


def test_every_row_of_the_list_is_there_once() -> None:
    expected = [f"{letter}{n}" for letter, count in COUNTS.items() for n in range(1, count + 1)]
    assert sorted(row for row, *_ in ROWS) == sorted(expected)


@pytest.mark.parametrize(("row", "what", "tests", "state"), ROWS, ids=[row for row, *_ in ROWS])
def test_a_row_has_tests_that_cite_it(row: str, what: str, tests: str, state: str) -> None:
    assert what
    named = re.findall(r"`([^`]+)`", tests)
    assert named
    assert state in STATES
    assert (state == "with a peer") == (row in NEED_A_PEER)
    for name in named:
        path, _, function = name.partition("::")
        assert (TESTS / path).exists(), f"{path} is not there"
        assert function.startswith("test_")
        assert function in sources(TESTS / path), f"{name} is not there"
        assert row in cited(sources(TESTS / path)[function]), f"{name} does not cite {row}"
