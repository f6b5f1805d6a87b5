"""The writer's thread where the system has none to give."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from resonate_aio.stores.sqlite import SqliteStore


async def test_without_a_thread_nothing_is_opened_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Law 16: the same file opens as soon as there is a thread."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await SqliteStore(tmp_path / "a.db").open()
    store = SqliteStore(tmp_path / "a.db")
    await store.open()
    await store.close()
    assert not caplog.records
