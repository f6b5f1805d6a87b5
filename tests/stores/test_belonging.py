"""Which promises in memory belong to which execution: read late, and right all the same (S9)."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.stores.drive import child, held, step

from resonate_aio.protocol.records import Promise
from resonate_aio.stores.belonging import Belonging
from resonate_aio.stores.lineage import is_derived, prefixes
from resonate_aio.stores.memory import MemoryStore

Index = dict[str, set[str]]


def from_scratch(promises: dict[str, Promise]) -> tuple[Index, Index]:
    owned: Index = {}
    foreign: Index = {}
    for id, promise in promises.items():
        if promise.owner:
            owned.setdefault(promise.owner, set()).add(id)
        if not is_derived(promise):
            for prefix in prefixes(id):
                foreign.setdefault(prefix, set()).add(id)
    return owned, foreign


def as_sets(index: dict[str, dict[str, None]]) -> Index:
    return {key: set(ids) for key, ids in index.items()}


@pytest.mark.parametrize("seed", range(50))
def test_whatever_came_and_went_in_between(seed: int) -> None:
    chance = random.Random(seed)
    promises: dict[str, Promise] = {}
    belonging = Belonging()
    for _ in range(300):
        kind = chance.choices(("made", "read", "some", "gone"), (20, 1, 2, 1))[0]
        if kind == "made":
            owner = chance.choice(("", "a", "a.b", "c"))
            id = f"{chance.choice(('a', 'a.b', 'c', 'd'))}.{chance.randrange(40)}"
            promises.setdefault(id, child(id, owner))
        elif kind == "some":
            belonging.read(promises, chance.randrange(1, 5))
        else:
            assert belonging.read(promises)
            if kind == "gone" and promises:  # as `prune`, which has read them all
                for id in chance.sample(list(promises), chance.randrange(1, len(promises) + 1)):
                    belonging.remove(promises.pop(id))
            owned, foreign = from_scratch(promises)
            assert as_sets(belonging.owned) == owned
            assert as_sets(belonging.foreign) == foreign


def test_in_the_order_they_were_made() -> None:
    promises = {id: child(id, "a") for id in (f"a.{n}" for n in range(30))}
    belonging = Belonging()
    while not belonging.read(promises, 7):
        pass
    assert list(belonging.owned["a"]) == list(promises)


async def test_others_have_their_turn_while_much_is_read() -> None:
    """Law 15: thirty thousand promises that nobody asked about are no pause."""
    store = MemoryStore()
    await store.open()
    early = await held(store, "early")
    await step(store, "early", early, 1)
    for n in range(1_000):
        version = await held(store, f"some-{n}")
        for s in range(1, 30):
            await step(store, f"some-{n}", version, s)
    late = await held(store, "late")
    await step(store, "late", late, 1)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    loaded = await store.load("early")
    task.cancel()
    assert [promise.id for promise in loaded] == ["early.1"]
    assert turns >= 3
    assert [promise.id for promise in await store.load("late")] == ["late.1"]
    assert len(await store.load("some-500")) == 29
    await store.close()
