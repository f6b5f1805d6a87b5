"""Promises about the product (mission table 1.1)."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
import traceback
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from tests.client.lives import Lives, utc, where

import resonate_aio
from resonate_aio import Context, Resonate
from resonate_aio.errors import FunctionNotFoundError, ResonateError, ValueCodecError
from resonate_aio.stores.memory import MemoryStore
from resonate_aio.testing import crash_everywhere

Make = Callable[..., Resonate]
ROOT = Path(__file__).parents[2]


def test_few_names() -> None:
    """Mission P1: what a program needs every day, and the errors; the rest is in modules."""
    errors = {
        name
        for name in resonate_aio.__all__
        if isinstance(getattr(resonate_aio, name), type)
        and issubclass(getattr(resonate_aio, name), ResonateError)
    }
    assert set(resonate_aio.__all__) - errors == {
        "Context",
        "Dependencies",
        "Function",
        "Handle",
        "Promise",
        "Registry",
        "Resonate",
        "Yieldable",
    }
    assert sorted(resonate_aio.__all__) == resonate_aio.__all__
    for name in resonate_aio.__all__:
        assert getattr(resonate_aio, name)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_every_kind_of_call_survives_a_crash_at_every_point(store: Any) -> None:
    """Mission P2: durable by default; tests/laws says the same of 70 programs."""

    def plain(ctx: Context, n: int) -> int:
        return n + 1

    def generator(ctx: Context, n: int) -> Generator[Any, Any, int]:
        first: int = yield ctx.run(plain, n)
        yield ctx.sleep(1)
        return first + 1

    async def flow(ctx: Context) -> list[Any]:
        promise = await ctx.begin_run(plain, 1)
        far = await ctx.begin_rpc(plain, 2)
        gate = await ctx.promise(id="gate")
        detached = await ctx.detached(plain, 3)
        found = [await ctx.run(generator, 4), await ctx.rpc(plain, 5), await promise, await far]
        return [*found, await gate, str(detached.id)]

    async def program(resonate: Resonate) -> Any:
        resonate.register(plain)
        resonate.register(flow)
        await resonate.promises.create("gate", timeout_in=60)
        await resonate.promises.resolve("gate", value="open")
        return [await resonate.run("a", flow), await resonate.get("a.4")]

    assert crash_everywhere(program, store=store).result == [[6, 6, 2, 3, "open", "a.4"], 4]


async def test_no_loops_around_a_flaky_step() -> None:
    """Mission P3: leaf functions are tried again without a word of the program's."""
    calls: list[int] = []

    async def flaky(ctx: Context) -> int:
        calls.append(ctx.info.attempt)
        if len(calls) < 2:
            raise ConnectionError
        return len(calls)

    async def main(resonate: Resonate) -> int:
        @resonate.register
        async def flow(ctx: Context) -> int:
            return await ctx.run(flaky)

        return await resonate.run("a", flow)

    lives = Lives(None, utc("2024-05-01 12:00"))
    assert await asyncio.to_thread(lives.life, main) == 2
    assert calls == [1, 2]


async def test_a_traceback_speaks_of_the_program() -> None:
    """Mission P4: a failing step's traceback begins in its own code; no engine in between."""

    async def charge(ctx: Context, order: str) -> None:
        raise LookupError(f"no card for {order}")

    from resonate_aio.retry_policies import Never

    async with Resonate() as resonate:

        @resonate.register
        async def checkout(ctx: Context, order: str) -> None:
            await ctx.run(charge, order).options(retry_policy=Never())

        with pytest.raises(LookupError, match="no card for 42") as raised:
            await resonate.run("order-42", checkout, "42")
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert frames[-1].filename == __file__ or frames[0].filename == __file__
    text = "".join(traceback.format_tb(raised.value.__traceback__))
    for engine in ("scheduler", "asking", "worker", "machine"):
        assert engine not in text


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_built_wheel_works_in_a_clean_environment(tmp_path: Path) -> None:
    """Mission P5: any installer of wheels installs it, with its types, and it runs."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install '.[dev]'")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-q", "-w", str(tmp_path), str(ROOT)], check=True, timeout=60)
    (wheel,) = tmp_path.glob("resonate_aio-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "resonate_aio/py.typed" in names
    package = {path.relative_to(ROOT / "src").as_posix() for path in sources()}
    assert package <= set(names)

    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=60)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, timeout=60)
    # What it depends on comes from here: the index is not for tests.
    installed = [path for path in sys.path if path.endswith("site-packages")]
    program = (
        "import asyncio, resonate_aio as r\n"
        "async def foo(ctx): return r.__file__\n"
        "async def main():\n"
        "    async with r.Resonate() as resonate:\n"
        "        return await resonate.run('a', resonate.register(foo))\n"
        "print(asyncio.run(main()))"
    )
    done = subprocess.run(
        [str(python), "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join(installed)},
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert str(tmp_path / "venv") in done.stdout


def sources() -> list[Path]:
    return sorted((ROOT / "src" / "resonate_aio").rglob("*.py"))


def test_the_readme_claims_nothing_of_others() -> None:
    """Mission P9: contrasts with other products age; what is said is about this one."""
    text = (ROOT / "README.md").read_text()
    assert not re.search(r"\b(Temporal|Restate|DBOS)\b", text)
    assert "Limits" in text, "and its limits are said"


async def test_the_top_level_function_is_registered_and_others_need_not_be() -> None:
    """Mission P13, P16."""

    async def local(ctx: Context, n: int) -> int:
        return n + 1

    async def top(ctx: Context, n: int) -> int:
        return await ctx.run(local, n)

    async with Resonate() as resonate:
        with pytest.raises(FunctionNotFoundError, match=r"@resonate\.register"):
            resonate.run("a", top, 1)
        resonate.register(top)
        assert await resonate.run("a", top, 1) == 2


async def test_a_registered_function_is_started_by_any_client_of_its_store() -> None:
    """Mission P14: also by an invocation in the form that other SDKs write."""
    store = MemoryStore()
    asking, working = Resonate(store=store), Resonate(store=store)

    @working.register
    async def foo(ctx: Context, n: int, *, factor: int = 1) -> int:
        return n * factor

    async with asking, working:
        assert await asking.rpc("a", "foo", 2, factor=3) == 6
        for id, data in (
            ("typescript", '{"func": "foo", "args": [7], "version": 1}'),
            ("command line", '{"func":"foo","args":[7],"version":1,"retry":null}'),
            ("python", '{"func":"foo","args":[7],"kwargs":{},"version":1}'),
        ):
            tags = {"resonate:target": "poll://any@default"}
            await asking.promises.create(id, timeout_in=60, data=data, tags=tags)
            assert await asking.get(id) == 7


async def test_the_first_argument_is_a_context() -> None:
    """Mission P15: for `def`, generator and `async def`."""

    def plain(ctx: Context) -> str:
        return type(ctx).__name__

    def generator(ctx: Context) -> Generator[Any, Any, str]:
        yield ctx.sleep(0)
        return type(ctx).__name__

    async def coroutine(ctx: Context) -> str:
        return type(ctx).__name__

    async with Resonate() as resonate:
        for function in (plain, generator, coroutine):
            name = function.__name__
            resonate.register(function)
            assert await resonate.run(name, name) == "Context"


async def test_arguments_that_cannot_be_stored_are_named() -> None:
    """Mission P17: at the call, with the path of the culprit."""

    async def foo(ctx: Context, order: Any, *, extra: Any = None) -> None: ...

    async with Resonate() as resonate:
        resonate.register(foo)
        with pytest.raises(ValueCodecError, match=r"'foo'.*object.*\['items'\]\[1\]"):
            resonate.run("a", foo, {"items": [1, object()]})
        with pytest.raises(ValueCodecError, match=r"\['extra'\]"):
            resonate.rpc("a", foo, 1, extra=object())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_another_process_goes_on(kind: str, tmp_path: Path) -> None:
    """Mission P18, P19, law 6: by itself, as soon as a process is there that knows the function."""
    steps: list[str] = []

    async def step(ctx: Context, name: str) -> str:
        steps.append(name)
        return name

    async def flow(ctx: Context) -> list[str]:
        first = await ctx.run(step, "first")
        await ctx.sleep(3600)
        return [first, await ctx.run(step, "second")]

    async def begins(resonate: Resonate) -> None:
        resonate.register(flow)
        await resonate.begin_run("a", flow).created()
        await asyncio.sleep(10)

    async def goes_on(resonate: Resonate) -> Any:
        resonate.register(flow)
        await resonate.start()
        await asyncio.sleep(4_000)
        return (await resonate.promises.get("a")).value.data

    lives = Lives(where(kind, tmp_path), utc("2024-05-01 12:00"))
    lives.life(begins, killed=True, pid="one")
    assert lives.life(goes_on, pid="two") == '["first","second"]'
    assert steps == ["first", "second"]


def test_the_oldest_python() -> None:
    """Mission P22."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert sys.version_info >= (3, 11)


def public_modules() -> list[str]:
    found = ["resonate_aio", "resonate_aio.testing"]
    modules = pkgutil.iter_modules(resonate_aio.__path__, "resonate_aio.")
    return [*found, *(module.name for module in modules if not module.ispkg)]


def public_names() -> list[Any]:
    found: dict[str, Any] = {}
    for name in public_modules():
        module = importlib.import_module(name)
        found[name] = module
        for public in getattr(module, "__all__", None) or vars(module):
            thing = getattr(module, public)
            is_ours = getattr(thing, "__module__", "").startswith("resonate_aio")
            if public.startswith("_") or not is_ours:
                continue
            found[f"{name}.{public}"] = thing
            if inspect.isclass(thing):
                found |= {
                    f"{name}.{public}.{attribute}": member
                    for attribute, member in vars(thing).items()
                    if not attribute.startswith("_")
                    and (inspect.isfunction(member) or isinstance(member, property))
                }
    return [pytest.param(thing, id=name) for name, thing in found.items()]


@pytest.mark.parametrize("thing", public_names())
def test_every_public_name_says_what_it_is(thing: Any) -> None:
    """Mission P24: `python -m pydoc resonate_aio` is the reference; no name without a line."""
    text = inspect.getdoc(thing)
    assert text, "no docstring"
    first = text.split("\n")[0]
    assert first == first.strip()
    assert len(first) > 10


def test_the_package_runs_as_its_command() -> None:
    """Whoever has the package and not its script on the PATH types this."""
    ran = [
        subprocess.run(
            [sys.executable, "-m", module, "--help"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        for module in ("resonate_aio", "resonate_aio.cli")
    ]
    assert ran[0] == ran[1]
    assert "promises" in ran[0]
