"""Official SDKs and this library on one server: the processes of a test, and what it asks them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest
from tests.peers.processes import WAIT_S, Processes
from tests.peers.sdk_current import SDKS, Sdk

from resonate_aio import Resonate
from resonate_aio.errors import ResonateStoreError

PRESENT: Final = [sdk for sdk in SDKS if sdk.command() is not None]


def need_an_sdk() -> None:
    """Skip the module that asks where no SDK is there."""
    if not PRESENT:
        pytest.skip("; ".join(sdk.absent for sdk in SDKS), allow_module_level=True)


class Peers(Processes):
    """Workers and callers of one SDK and of ours, on one server."""

    def __init__(self, sdk: Sdk, url: str, log: Path) -> None:
        super().__init__(log)
        self.sdk = sdk
        self.url = url

    async def worker(self, group: str) -> None:
        """A worker of the kind that the group's name says."""
        if group.startswith("sdk"):
            await self.worker_of(self.sdk, group)
        else:
            await self.work_of_ours(group, self.url)

    async def worker_of(self, sdk: Sdk, group: str) -> None:
        command = sdk.command()
        assert command is not None
        await self.work(group, *command, "work", group, self.url, str(self.log))

    async def sdk_calls(self, group: str, *calls: tuple[Any, ...]) -> list[Any]:
        """Call functions from a process that has the SDK; their values, or `error: text`."""
        return await self._asked("call", group, calls)

    async def sdk_resolves(self, id: str, value: Any) -> Any:
        """Resolve a promise from a process that has the SDK; its state."""
        (state,) = await self._asked("resolve", id, value)
        return state

    async def _asked(self, verb: str, whom: str, what: Any) -> list[Any]:
        command = self.sdk.command()
        assert command is not None
        return await self.answers(whom, *command, verb, whom, self.url, json.dumps(what))


def of_group(resonate: Resonate, group: str) -> Resonate:
    return resonate.options(target=f"poll://any@{group}")


async def until_called(ours: Resonate, group: str) -> None:
    """The promise of a call of this group is there, and so is all that came before it."""
    target = {"resonate:target": f"poll://any@{group}"}
    async with asyncio.timeout(WAIT_S):
        while not (await ours.promises.search(tags=target)).items:  # noqa: ASYNC110  as below
            await asyncio.sleep(0.02)


async def until_asked(ours: Resonate, question: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await ours.promises.get(question)
                return
            except ResonateStoreError:  # not asked yet
                await asyncio.sleep(0.02)
