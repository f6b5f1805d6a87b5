"""What a client shows of itself: where it keeps things and who it is there (law 17)."""

from __future__ import annotations

from pathlib import Path

import pytest

from resonate_aio import Resonate


def test_a_client_says_where_and_who_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repr(Resonate(pid="p")) == "<Resonate in memory, group 'default', pid 'p'>"
    file = tmp_path / "app.db"
    local = Resonate.local(path=file, group="g", pid="p")
    assert repr(local) == f"<Resonate in {file}, group 'g', pid 'p'>"
    monkeypatch.setenv("RESONATE_HOST", "somewhere")
    monkeypatch.setenv("RESONATE_USERNAME", "ann")
    monkeypatch.setenv("RESONATE_PASSWORD", "sesame")
    for client in (Resonate(group="g"), Resonate.remote(group="g", token="open-sesame")):
        shown = repr(client)
        assert "http://somewhere:8001" in shown
        assert "group 'g', pid '" in shown
        assert "sesame" not in shown
        assert repr(client.options(version=2)) == shown
