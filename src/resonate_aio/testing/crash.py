"""Crash everywhere: put a program through a crash at every instant at which one can matter.

    from resonate_aio.testing import crash_everywhere

    def test_checkout_survives():
        async def main(resonate):
            resonate.register(checkout)
            return await resonate.run("order-42", checkout, "42")

        crash_everywhere(main)

The program runs once undisturbed. Then it runs again and again, each time with a crash at
another point: before or after one of its store operations, or between two steps of the
event loop. A crash is what `kill -9` is: nothing of the process runs any more, only what
the store had recorded is there for the next one. The next process calls the program again,
and whatever the instant, the result and the recorded values must be those of the run that
was left alone. Time is virtual: an hour's `ctx.sleep` costs nothing.

This file plans the runs and compares them; `theatre` carries them out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Literal

import msgspec

from ..runtime.settings import Settings
from .theatre import (
    FaultError,
    Main,
    MemoryStage,
    Outcome,
    Records,
    SqliteStage,
    Theatre,
    refuse_what_is_no_program,
)

__all__ = ["CrashError", "MemoryStage", "Report", "SqliteStage", "Theatre", "crash_everywhere"]

_NEW_EACH_TIME = (
    "\n  hint: a value that is new each time (random, time, uuid) is another one in the next life, "
    "unless a step or ctx.random and ctx.time recorded it; values_vary=True lets recorded values "
    "differ between runs, not what the program returns"
)
_SHOWN_CHARACTERS = 300
_SHOWN_RECORDS = 5
_PATIENCE = 10
_PATIENCE_S = 36_000.0


class CrashError(AssertionError):
    """A program did not come through a crash as it must; the message says all of this.

    Attributes:
        program: Its name.
        store: "memory" or "sqlite".
        seed: The seed of the run.
        points: The crash points of the run, as `only=` takes them.
        reason: What was wrong.
    """

    def __init__(
        self,
        reason: str,
        program: str,
        store: str,
        seed: int,
        points: Sequence[int],
        places: Sequence[str],
    ) -> None:
        self.reason = reason
        self.program = program
        self.store = store
        self.seed = seed
        self.points = tuple(points)
        where = "".join(f"\n  life {n}: crash {place}" for n, place in enumerate(places, 1))
        again = f"crash_everywhere({program}, store={store!r}, seed={seed}, only={self.points!r})"
        super().__init__(
            f"{program!r} on {store}, seed {seed}: {reason}{where or ' (no crash at all)'}"
            f"\n  again: {again}"
        )


class Report(msgspec.Struct, frozen=True):
    """What `crash_everywhere` did.

    Attributes:
        program: Name of the program.
        store: "memory" or "sqlite".
        seed: The seed of its random crash points.
        result: What the program returned, every time.
        records: State and encoded value of each settled promise at the undisturbed end.
        operations: Store operations of the undisturbed run.
        runs: How often the program was run with crashes.
        crashes: How many crashes fell in these runs.
    """

    program: str
    store: str
    seed: int
    result: Any
    records: Records
    operations: int
    runs: int
    crashes: int


def crash_everywhere(
    main: Main,
    *,
    store: Literal["memory", "sqlite"] = "memory",
    seed: int = 0,
    effects: Counter[str] | None = None,
    values_vary: bool = False,
    between: int = 0,
    random_runs: int = 0,
    lives: int = 6,
    only: Sequence[int] | None = None,
    name: str | None = None,
    settings: Settings | None = None,
) -> Report:
    """Run a program once, then with a crash before and after each of its store operations.

    `main` is called in every life with a fresh client. It registers the functions first, then
    starts executions under ids that are the same each time, and returns what it has to show;
    it neither starts nor stops the client. What it returns must depend on recorded values
    only: not on how often it was called, not on the time of day. Call this from an ordinary
    test function, not from inside a running event loop.

    Args:
        main: The whole program: `async def main(resonate): ...`.
        store: Where it is recorded: "memory" is fast, "sqlite" a real file that loses what
            was not committed.
        seed: Chooses the random crash points.
        effects: A counter in which steps count themselves as they start, by their promise's
            id: `effects[ctx.id] += 1`. A step whose result was recorded when the crash came
            must never start again. It is emptied before each run.
        values_vary: Recorded values may differ between runs (random numbers, times). What was
            recorded at a crash must still be there at the end, unchanged.
        between: How many runs with one crash between two store operations, at a handle of
            the event loop that the seed chooses.
        random_runs: How many runs with several crashes, at points that the seed chooses.
        lives: How many crashes such a run has at most.
        only: One run with these crash points, as a `CrashError` names them, instead of all.
        name: Name of the program in messages; its own name where absent.
        settings: The worker's settings.

    Returns:
        What was done; worth an assertion that it was not nothing.

    Raises:
        CrashError: Some run differed; the message names program, seed and crash points, and
            the line that repeats that run alone.
        SimDeadlock: Left alone, it waits for what can never come; the message names it.
        TypeError: `main` is no async function.
        Exception: What the program raised when it was left alone.
    """
    refuse_what_is_no_program(main, "crash_everywhere")
    trial = _Trial(main, store, seed, effects, values_vary, name, settings)
    base = trial.undisturbed()
    if only is not None:
        plans: Iterator[tuple[int, ...]] = iter([tuple(only)])
    else:
        plans = _plans(base, Random(f"{trial.name}/{seed}"), between, random_runs, lives)  # noqa: S311
    runs = crashes = 0
    for points in plans:
        crashes += trial.run(base, points)
        runs += 1
    return Report(
        trial.name, store, seed, base.result, base.records, base.operations, runs, crashes
    )


def _plans(
    base: Outcome, rng: Random, between: int, random_runs: int, lives: int
) -> Iterator[tuple[int, ...]]:
    for point in range(2 * base.operations):
        yield (point,)
    handles = base.lives[-1].handles
    for _ in range(between):
        yield (-rng.randint(1, handles),)
    for _ in range(random_runs):
        yield tuple(
            -rng.randint(1, handles) if rng.random() < 0.25 else rng.randrange(2 * base.operations)
            for _ in range(rng.randint(2, max(lives, 2)))
        )


class _Trial:
    """One program on one kind of store, run again and again."""

    def __init__(
        self,
        main: Main,
        store: str,
        seed: int,
        effects: Counter[str] | None,
        values_vary: bool,
        name: str | None,
        settings: Settings | None,
    ) -> None:
        if store not in _STAGES:
            raise ValueError(f"store is one of {', '.join(_STAGES)}, got {store!r}")
        self.name = name or str(getattr(main, "__name__", type(main).__name__))
        self._main = main
        self._store = store
        self._seed = seed
        self._effects: Counter[str] = effects if effects is not None else Counter()
        self._values_vary = values_vary
        self._settings = settings
        self._limit_s: float | None = None
        self._at_crash: list[tuple[Records, Counter[str]]] = []
        self._started: list[Counter[str]] = []

    def undisturbed(self) -> Outcome:
        """The run without a crash; it also says how long one may take."""
        base = self._play(())
        self._limit_s = _PATIENCE * base.lives[0].took_s + _PATIENCE_S
        return base

    def run(self, base: Outcome, points: tuple[int, ...]) -> int:
        """One run with crashes, compared with the undisturbed one.

        Returns:
            How many crashes fell.
        """
        outcome = self._play(points)
        places = [life.at for life in outcome.lives[:-1]]
        reason = self._difference(base, outcome)
        if reason:
            raise CrashError(reason, self.name, self._store, self._seed, points, places)
        return outcome.crashes

    def _play(self, points: tuple[int, ...]) -> Outcome:
        self._effects.clear()
        self._at_crash.clear()
        self._started.clear()
        stage = _STAGES[self._store]()
        theatre = Theatre(
            self._main,
            stage,
            settings=self._settings,
            crashed=lambda: self._started.append(Counter(self._effects)),
            found=self._found,
            limit_s=self._limit_s,
            refuses_forgotten=True,
        )
        try:
            return theatre.play(points)
        except FaultError as fault:
            error, reason = fault, str(fault)
        except Exception as raised:
            if not points:
                raise
            error, reason = raised, f"it raised {type(raised).__name__}: {raised}"  # type: ignore[assignment]
        finally:
            stage.close()
        places = theatre.places
        raise CrashError(reason, self.name, self._store, self._seed, points, places) from error

    def _found(self, settled: Records) -> None:
        """A life begins with these records: they were there when the one before it ended."""
        for started in self._started:
            self._at_crash.append((settled, started))
        self._started.clear()

    def _difference(self, base: Outcome, outcome: Outcome) -> str:
        """What is wrong with this run, or nothing."""
        if outcome.result != base.result:
            returned = f"it returned {_shown(outcome.result)} instead of {_shown(base.result)}"
            return returned + _NEW_EACH_TIME
        for life, (settled, started) in enumerate(self._at_crash, 1):
            lost = _changes(settled, {id: outcome.records.get(id) for id in settled})
            if lost:
                return f"what was recorded at the crash of life {life} changed: {lost}"
            for id in settled:
                if self._effects[id] > started[id]:
                    return f"step {id!r} was recorded at the crash of life {life} and started again"
        if not self._values_vary:
            other = _changes(base.records, outcome.records)
            if other:
                return f"it recorded something else: {other}{_NEW_EACH_TIME}"
        return ""


_STAGES: dict[str, type[MemoryStage | SqliteStage]] = {
    "memory": MemoryStage,
    "sqlite": SqliteStage,
}


def _changes(expected: Records, found: Any) -> str:
    """How the found records differ from the expected ones, in a few words."""
    ids = [id for id in {**expected, **found} if expected.get(id) != found.get(id)]
    shown = [
        f"{id!r} is {_record(found.get(id))} instead of {_record(expected.get(id))}"
        for id in sorted(ids)[:_SHOWN_RECORDS]
    ]
    more = len(ids) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def _record(record: tuple[str, str | None] | None) -> str:
    return "not settled" if record is None else f"{record[0]} {_shown(record[1])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
