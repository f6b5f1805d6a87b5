"""`resonate-aio tree`: found whoever ran it, drawn in order."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.cli.conftest import Command
from tests.cli.processes import Served

from resonate_aio.cli.tree import drawn, nested
from resonate_aio.execution.log import EXPLICIT_HEADER, FINGERPRINT_HEADER
from resonate_aio.protocol import requests as r
from resonate_aio.protocol.records import EMPTY, Promise, PromiseState, Value

FAR_MS = 4_102_444_800_000
PENDING, RESOLVED = PromiseState.PENDING, PromiseState.RESOLVED


def promise(
    id: str,
    *,
    parent: str = "",
    origin: str = "",
    state: PromiseState = RESOLVED,
    func: str | None = None,
    headers: dict[str, str] | None = None,
    **tags: str,
) -> Promise:
    named = {"parent": parent, "origin": origin, **tags}
    data = None if func is None else json.dumps({"func": func, "args": []})
    return Promise(
        id,
        state,
        FAR_MS,
        1_000,
        Value(headers, data),
        EMPTY,
        {f"resonate:{name}": tag for name, tag in named.items() if tag},
        None if state is PENDING else 2_500,
    )


def lines(id: str, promises: list[Promise], **more: Any) -> list[str]:
    return list(drawn(nested(id, promises), 11_000, **more))


def heads(told: list[str]) -> list[tuple[int, str]]:
    """The level and the id on each line."""
    found = [re.fullmatch(r"([│├└─ ]*)\S (\S+)  .*", line) for line in told]
    return [(len(match[1]) // 3, match[2]) for match in found if match]


def test_children_follow_their_parents_in_the_order_of_their_numbers() -> None:
    """As official clients tag them, in either dialect."""
    for joint in (".", ":"):
        promises = [
            promise("r", origin="r", parent="r", state=PENDING, func="root", target="t"),
            *(promise(f"r{joint}{n}", origin="r", parent="r", scope="local") for n in (10, 2)),
            promise(f"r{joint}1", origin="r", parent="r", func="far", target="t"),
            promise(f"r{joint}1.1", origin="r", parent=f"r{joint}1", scope="local"),
            promise(f"r{joint}3", origin="r", parent="r", state=PENDING, timer="true"),
        ]
        assert lines("r", promises) == [
            "… r  root  pending for 10s",
            f"├─ ✓ r{joint}1  far  resolved in 1.5s",
            f"│  └─ ✓ r{joint}1.1  run  resolved in 1.5s",
            f"├─ ✓ r{joint}2  run  resolved in 1.5s",
            f"├─ … r{joint}3  sleep  pending for 10s",
            f"└─ ✓ r{joint}10  run  resolved in 1.5s",
        ]


def test_without_tags_ids_tell_where_a_call_belongs() -> None:
    """As executions of a local client are stored."""
    fingerprint = {FINGERPRINT_HEADER: "run|charge|1|abc"}
    promises = [
        promise("r", func="root"),
        promise("r.1", headers=fingerprint),
        promise("r.1-helper-1.1", headers=fingerprint),
        promise("r.1.2", headers={FINGERPRINT_HEADER: "sleep||1|"}),
        promise("r2.1"),
    ]
    told = lines("r", promises)
    assert heads(told) == [(0, "r"), (1, "r.1"), (2, "r.1.2"), (1, "r.1-helper-1.1")]
    for line, what in zip(told, ["root", "run charge", "sleep", "run charge"], strict=True):
        assert f"  {what}  resolved in 1.5s" in line


def test_a_call_under_an_id_of_its_own_stands_where_it_was_made() -> None:
    """S4: a log record holds its place."""
    promises = [
        promise("r", func="root"),
        promise("r.1", func="first"),
        promise("r.2", headers={EXPLICIT_HEADER: "elsewhere"}),
        promise("elsewhere", func="named"),
        promise("elsewhere.1", func="below"),
        promise("r.3", headers={EXPLICIT_HEADER: "never-made"}),
    ]
    assert heads(lines("r", promises)) == [
        (0, "r"),
        (1, "r.1"),
        (1, "elsewhere"),
        (2, "elsewhere.1"),
        (1, "r.3"),
    ]


def test_depth_and_each_state() -> None:
    promises = [
        promise("r", func="f"),
        promise("r.1", state=PromiseState.REJECTED),
        promise("r.1.1"),
        promise("r.2", state=PromiseState.CANCELED),
        promise("r.3", state=PromiseState.TIMEDOUT),
    ]
    assert [line[:10] for line in lines("r", promises, depth=1)] == [
        "✓ r  f  re",
        "├─ ✗ r.1  ",
        "├─ ⊘ r.2  ",
        "└─ ⏱ r.3  ",
    ]
    assert len(lines("r", promises, depth=0)) == 1


def test_parents_that_name_each_other_end() -> None:
    promises = [
        promise("r", func="f"),
        promise("a", origin="r", parent="b"),
        promise("b", origin="r", parent="a"),
        promise("r.1", parent="r.1"),
        promise("r.2", parent="absent"),
    ]
    assert heads(lines("r", promises)) == [(0, "r"), (1, "r.1"), (1, "r.2")]


def make(server: Served, id: str, **more: Any) -> None:
    created = promise(id, **more)
    assert server.ask(r.PromiseCreate(id, FAR_MS, created.param, created.tags))[0] == 200


@pytest.fixture(scope="module")
def chain(server: Served) -> str:
    make(server, "chain", func="a", target="poll://any@a")
    for n in range(1, 12):
        make(server, f"chain.{n}", parent="chain", origin="chain", scope="local")
    make(server, "chain:x", origin="chain", parent="chain.3")
    make(server, "far", func="b", origin="chain", parent="chain.2", target="poll://any@b")
    make(server, "chain.12", headers={EXPLICIT_HEADER: "named"})
    make(server, "named", func="c")
    make(server, "named.1", headers={EXPLICIT_HEADER: "below"})
    make(server, "below", func="d")
    make(server, "below.1", func="e")
    make(server, "chain-other", func="no")
    make(server, "chain2.1", func="no")
    return "chain"


def test_a_live_tree_over_http(server: Served, command: Command, chain: str) -> None:
    told = command("tree", chain)
    assert told.exit_code == 0
    assert [id for _, id in heads(told.stdout.splitlines())] == [
        *("chain", "chain.1", "chain.2", "far", "chain.3", "chain:x"),
        *(f"chain.{n}" for n in range(4, 12)),
        *("named", "below", "below.1"),
    ]
    server.ask(r.PromiseSettle("far", RESOLVED))
    assert "✓ far  b  resolved" in command("tree", chain).stdout
    below = command("tree", "chain.2").stdout.splitlines()
    assert heads(below) == [(0, "chain.2"), (1, "far")]


def test_a_tree_as_json(command: Command, chain: str) -> None:
    root = json.loads(command("tree", chain, "--json").stdout)
    assert (root["id"], root["what"], root["param"]["data"]["func"]) == ("chain", "a", "a")
    assert [child["id"] for child in root["children"]][:3] == ["chain.1", "chain.2", "chain.3"]
    assert [child["id"] for child in root["children"][1]["children"]] == ["far"]
    shallow = json.loads(command("tree", chain, "--json", "--depth", "0").stdout)
    assert shallow["children"] == []


def test_a_tree_that_does_not_exist(command: Command) -> None:
    assert command("tree", "absent").exit_code == 1
