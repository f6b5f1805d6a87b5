"""The durable functions of the four seed documents, as they are printed there.

Only what the documents leave out is filled in: the leaves return what they were given. The
functions are written without annotations, as in the seeds, and registered by `register(foo)`.
"""

from __future__ import annotations

from typing import Any

from resonate_aio import Context, Resonate
from resonate_aio.retry_policies import Exponential

from .base import World, program
from .outside import resolve_until_done

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs


def bar(ctx, arg):
    return arg


def foo_runs(ctx, arg):
    result = yield ctx.run(bar, arg)
    return result


def foo_begins(ctx, arg):
    promise = yield ctx.begin_run(bar, arg)
    result = yield promise
    return result


def foo_calls(ctx, arg):
    result = yield ctx.rpc("bar", arg)
    return result


def foo_begins_call(ctx, arg):
    promise = yield ctx.begin_rpc("bar", arg)
    result = yield promise
    return result


def foo_detaches(ctx, arg):
    yield ctx.detached("bar", arg)
    return "detached"


def foo_local_options(ctx, arg):
    result = yield ctx.run(bar, arg).options(
        id="custom-id",
        idempotency_key="custom-ikey",
        durable=True,
        retry_policy=Exponential(),
        tags={"key": "value"},
        timeout=30.0,
    )
    return result


def foo_remote_options(ctx, arg):
    result = yield ctx.rpc("bar", arg).options(
        id="custom-remote-id",
        idempotency_key="custom-ikey",
        target="poll://any@default",
        tags={"key": "value"},
        timeout=30.0,
        version=1,
    )
    return result


def foo_promises(ctx, arg):
    promise = yield ctx.promise(id="promise-id")
    result = yield promise
    return result


def foo_promises_with_data(ctx, arg):
    promise = yield ctx.promise(data={"key": "value"})
    result = yield promise
    return result


def foo_sleeps(ctx, arg):
    yield ctx.sleep(5.0)
    return arg


def foo_draws(ctx, arg):
    rand = yield ctx.random.random()
    return 0 <= rand < 1


def foo_tells_time(ctx, arg):
    time = yield ctx.time.time()
    return time > 0


def foo_depends(ctx, arg):
    dependency = ctx.get_dependency("dependency-name")
    return dependency[arg]


def link_a(ctx):
    result = yield ctx.rfc("link_b").options(target="poll://default")
    return result + 1


def link_b(ctx):
    result = yield ctx.rfc("link_c").options(target="poll://any@default")
    return result + 1


def link_c(ctx):
    return 1


def qux(ctx, arg):
    promise = yield ctx.rfi("bar", arg).options(target="default")
    result = yield promise
    return result


@program(expected=["arg"] * 4, dialect="generator", threads=True)
async def seed_calls(resonate: Resonate, world: World) -> Any:
    """Run, Begin Run, RPC and Begin RPC (seeds 000 and 001)."""
    resonate.register(bar)
    registered = [
        resonate.register(foo) for foo in (foo_runs, foo_begins, foo_calls, foo_begins_call)
    ]
    return [await foo.run(f"seed_calls/{foo.name}", "arg") for foo in registered]


@program(expected=["arg", "arg"], dialect="generator", threads=True)
async def seed_client_calls(resonate: Resonate, world: World) -> Any:
    """The client's own calls: a handle, a name, options before the call (seeds 000 and 001)."""
    resonate.register(bar)
    resonate.register(foo_runs)
    handle = resonate.begin_run("seed_client_calls/1", foo_runs, "arg")
    result = await resonate.options(
        idempotency_key="custom-ikey",
        retry_policy=Exponential(),
        target="poll://any@default",
        tags={"key": "value"},
        timeout=60.0,
        version=1,
    ).rpc("seed_client_calls/2", "foo_runs", "arg")
    return [await handle.result(), result]


@program(expected=["detached", "arg"], dialect="generator", threads=True)
async def seed_detached(resonate: Resonate, world: World) -> Any:
    """Detached (seed 001)."""
    resonate.register(bar)
    resonate.register(foo_detaches)
    first = await resonate.run("seed_detached", foo_detaches, "arg")
    return [first, await resonate.get("seed_detached.1")]


@program(expected=["arg", "arg"], dialect="generator", threads=True)
async def seed_options(resonate: Resonate, world: World) -> Any:
    """Options after local and remote calls (seed 001)."""
    for function in (bar, foo_local_options, foo_remote_options):
        resonate.register(function)
    return [
        await resonate.run("seed_options/local", foo_local_options, "arg"),
        await resonate.run("seed_options/remote", foo_remote_options, "arg"),
    ]


@program(expected=[{}, "yes"], dialect="generator")
async def seed_promises(resonate: Resonate, world: World) -> Any:
    """Promises with an id and with data, resolved from outside (seeds 000 and 001)."""
    resonate.register(foo_promises)
    resonate.register(foo_promises_with_data)
    named = resonate.begin_run("seed_promises/named", foo_promises, "arg")
    await resolve_until_done(resonate, named, "promise-id", {})
    with_data = resonate.begin_run("seed_promises/data", foo_promises_with_data, "arg")
    await resolve_until_done(resonate, with_data, "seed_promises/data.1", "yes")
    return [await named, await with_data]


@program(expected=["arg", True, True], dialect="generator", values_vary=True)
async def seed_time_and_luck(resonate: Resonate, world: World) -> Any:
    """Sleep, random and time (seeds 000 and 001)."""
    for function in (foo_sleeps, foo_draws, foo_tells_time):
        resonate.register(function)
    return [
        await resonate.run("seed_time_and_luck/sleep", foo_sleeps, "arg"),
        await resonate.run("seed_time_and_luck/random", foo_draws, "arg"),
        await resonate.run("seed_time_and_luck/time", foo_tells_time, "arg"),
    ]


@program(expected="injected", dialect="generator", threads=True)
async def seed_dependency(resonate: Resonate, world: World) -> Any:
    """A dependency of the process (seeds 000, 001 and 002)."""
    resonate.set_dependency("dependency-name", {"arg": "injected"})
    resonate.register(foo_depends)
    return await resonate.run("seed_dependency", foo_depends, "arg")


@program(expected=[3, "arg"], dialect="generator", threads=True)
async def seed_chain(resonate: Resonate, world: World) -> Any:
    """The await-chain and the invocation of the async-RPC walk-through (seed 003)."""
    for function in (link_a, link_b, link_c, bar, qux):
        resonate.register(function)
    handle = resonate.options(target="poll://default").rpc("await-chain", "link_a")
    message = await handle.result()
    return [message, await resonate.run("seed_chain/qux", qux, "arg")]


@program(expected="Hello, ada!", dialect="generator", threads=True)
async def seed_named_function(resonate: Resonate, world: World) -> Any:
    """Registration under a name and a version (seed 002)."""

    def greet(ctx: Context, name: str) -> str:
        world.step(ctx.id)
        return f"Hello, {name}!"

    resonate.register(greet, name="greet_user", version=2)
    return await resonate.rpc("seed_named_function", "greet_user", "ada")
