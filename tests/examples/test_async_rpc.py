"""`examples/async_rpc`: the nine services of seed 003 (mission table 1.11, E1 to E14)."""

from __future__ import annotations

import ast
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from resonate_aio import Context, Resonate

from .application import ALL, FOLDER, LETTERS, Application, children_of, post, still_runs
from .generations import environment_of, running, servers
from .person import ENVIRONMENT, Ended, end_of, read_until, start

PROGRAMS = [
    *("run_all.py", "recovery.py", "src/gateway.py", "src/one_process.py", "src/service_a.py")
]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """All of it; at the end Ctrl-C ends every process, quietly (law 16)."""
    made = Application(tmp_path_factory.mktemp("rpc"))
    try:
        yield made
        children = made.children()
        assert len(children) == len(ALL)
        made.process.send_signal(signal.SIGINT)
        ended = end_of(made.process)
    finally:
        made.process.kill()
        made.process.communicate()
    assert ended == Ended(130, ended.out, "\ninterrupted\n")
    assert "Traceback" not in made.out + ended.out
    assert not [children[pid] for pid in children if still_runs(pid)]


def test_the_await_chain_answers_and_the_same_request_joins(application: Application) -> None:
    """Mission E3: 200, and a JSON object with one number. The id is the route's (E4)."""
    for _ in range(2):
        assert application.post("/await-chain") == (200, {"message": 3})
    application.read_chain("await-chain", "ends")
    assert application.said("await-chain", "begins") == [1, 1, 1]
    assert application.said("await-chain", "ends") == [1, 1, 1]
    assert application.post("/await-chain?id=another") == (200, {"message": 3})
    application.read("[service-c] another.1.1: baz begins")


def test_the_route(application: Application) -> None:
    """Mission E1: `curl -X POST http://localhost:5000/await-chain`; no other method or path."""
    for path, method, status in (("await-chain", "GET", 405), ("await", "POST", 404)):
        request = urllib.request.Request(f"{application.url}/{path}", method=method)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        refused.value.close()
        assert refused.value.code == status
    command = "curl -X POST http://localhost:5000/await-chain"
    assert command in (FOLDER / "README.md").read_text()


def test_each_hop_adds_one(application: Application) -> None:
    """Mission E2: gateway, foo of service a, bar of b, baz of c; each by its own process."""
    assert application.post("/await-chain?id=hops")[1] == {"message": 3}
    assert application.values("hops", "hops.1", "hops.1.1") == [3, 2, 1]
    application.read_chain("hops", "begins")
    assert application.said("hops", "begins") == [1, 1, 1]


def test_a_request_joins_the_chain_that_runs(application: Application) -> None:
    """Mission E4, E11: the same id again runs nothing; the log shows who is asked and who not yet.

    Held in the middle: what waits has said so, what was not reached has said nothing.
    """
    with ThreadPoolExecutor(2) as pool:
        with application.held("service_c"):
            requests = [pool.submit(application.post, "/await-chain?id=twice") for _ in range(2)]
            application.read_chain("twice", "begins", ["service-a", "service-b"])
            while application.out.count("[gateway] twice: asking poll://service-a for foo") < 2:
                application.read_line()
            assert application.said("twice", "begins") == [1, 1, 0]
            assert application.said("twice", "ends") == [0, 0, 0]
            assert "twice: answering" not in application.out
        assert [request.result() for request in requests] == [(200, {"message": 3})] * 2
    while application.out.count("[gateway] twice: answering 3") < 2:
        application.read_line()
    application.read_chain("twice", "ends")
    assert application.said("twice", "begins") == application.said("twice", "ends") == [1, 1, 1]


def test_the_gateways_call_in_both_spellings(application: Application) -> None:
    """Mission E5: `.rpc(...)` is awaited, or its `.result()`; it is the same call."""

    async def call(client: Resonate) -> list[Any]:
        handle = client.options(target="poll://service-a").rpc("spelled", "foo")
        return [
            await handle.result(),
            await handle,
            await client.options(target="poll://service-a").rpc("spelled", "foo"),
        ]

    assert application.ask(call) == [3, 3, 3]


def test_the_generator_of_the_text_runs_unchanged(application: Application) -> None:
    """Mission E6: letter for letter, in a service of its own beside the others."""

    async def call(client: Resonate) -> Any:
        @client.register
        def foo(ctx):  # type: ignore[no-untyped-def]
            # ctx.rfc dispatches to service-b and waits for the result.
            # Both sides are durable; the call resumes if either process crashes.
            result = yield ctx.rfc("bar").options(target="poll://service-b")
            return result + 1

        return await client.options(target="poll://visitor").rpc("unchanged", "foo").result()

    assert application.ask(call) == 3


def test_the_detached_chain_goes_on_by_itself(application: Application) -> None:
    """Mission E7: qux of service d ends while service e, which it handed on to, does nothing."""
    with application.held("service_e"):
        answer = application.post("/detached-chain")
        assert answer == (200, {"message": "detached-chain started"})
        assert application.values("detached-chain") == [1]
        assert "quz begins" not in application.out
    application.read("[service-f] detached-chain.1.1: cog ends: the chain handed on 3")
    assert application.values("detached-chain.1", "detached-chain.1.1") == [2, 3]


def test_rfi_that_is_dropped_is_no_detached_call(application: Application) -> None:
    """Mission E7, and (c) of 1.12: it runs nothing, and says what to write in its place."""

    async def call(client: Resonate) -> Any:
        @client.register
        def foo(ctx: Context) -> Generator[Any, Any, int]:
            ctx.rfi("qux", 1).options(target="poll://service-d")
            return (yield ctx.rfi("dop", 1).options(target="poll://service-i")) is not None

        with pytest.warns(RuntimeWarning, match=r"never awaited or yielded.*use ctx\.detached"):
            ended = await client.options(target="poll://visitor").rpc("dropped", "foo")
        with pytest.raises(Exception, match="does not exist"):
            await client.promises.get("dropped.1")
        return ended

    assert application.ask(call) is True
    assert "dropped.1: qux" not in application.out


def test_the_fan_out_adds_what_both_say(application: Application) -> None:
    """Mission E8: both are asked at once; neither waits for the other."""
    with ThreadPoolExecutor(1) as pool:
        for held, other in (("service_h", "2: dop ends"), ("service_i", "1: rax ends")):
            with application.held(held):
                answer: Future[Any] = pool.submit(application.post, f"/fan-out?id=without-{held}")
                application.read(f"without-{held}.{other}")
                assert not answer.done()
            assert answer.result() == (200, {"message": 13})
            assert application.values(f"without-{held}.1", f"without-{held}.2") == [3, 10]


def test_ten_programs_and_one_that_starts_them(application: Application) -> None:
    """Mission E9: `src/service_a.py` to `src/service_i.py` and `src/gateway.py`, a process each."""
    programs = ["gateway.py", *(f"service_{letter}.py" for letter in LETTERS)]
    lines = sorted(line for line in application.children().values() if "/src/" in line)
    started = [re.findall(r"/src/(\w+\.py)", line) for line in lines]
    assert sorted(started) == [[program] for program in programs]
    for program in programs:
        assert (FOLDER / "src" / program).exists()


def test_a_request_with_a_useless_id_is_the_callers_fault(application: Application) -> None:
    for useless in ("", "%00", "a%0Ab"):
        assert application.post(f"/fan-out?id={useless}") == (400, "an id is printable text")


def test_the_gateway_crashes_and_is_asked_again(application: Application) -> None:
    """Mission E14: its caller hears nothing more, what it called does not notice."""
    with ThreadPoolExecutor(1) as pool:
        with application.held("service_c"):
            request = pool.submit(application.post, "/await-chain?id=orphan")
            application.read_chain("orphan", "begins", ["service-a", "service-b"])
            before = application.said("orphan", "begins")
            application.kill("gateway")
            with pytest.raises((ConnectionError, urllib.error.URLError)):
                request.result()
            again = pool.submit(application.post, "/await-chain?id=orphan")
            application.read("[gateway] orphan: asking")
        assert again.result() == (200, {"message": 3})
    application.read_chain("orphan", "ends")
    after = application.said("orphan", "begins")
    assert [sum(both) for both in zip(before, after, strict=True)] == [1, 1, 1]


def test_what_is_killed_is_started_again(application: Application) -> None:
    """Mission E13: a service or the server, between requests; in the middle: test_services."""
    for program in ("service_b", "resonate_aio.cli"):
        application.kill(program)
        assert application.post(f"/await-chain?id=after-{program[:7]}") == (200, {"message": 3})


def test_no_server_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mission E10: the same functions and routes in one process; killed, it goes on (E13)."""
    monkeypatch.setitem(ENVIRONMENT, "ASYNC_RPC_WORK_S", "0.4")
    with ThreadPoolExecutor(1) as pool:
        with start(tmp_path, "async_rpc/src/one_process.py", "--port", "0") as first:
            try:
                url = read_until(first, "gateway is running").split()[-1]
                request = pool.submit(post, f"{url}/await-chain")
                read_until(first, "await-chain.1.1: baz begins")
            finally:
                first.kill()
            with pytest.raises((ConnectionError, urllib.error.URLError)):
                request.result()
        with start(tmp_path, "async_rpc/src/one_process.py", "--port", "0") as second:
            try:
                url = read_until(second, "gateway is running").split()[-1]
                assert post(f"{url}/await-chain") == (200, {"message": 3})
                assert post(f"{url}/detached-chain")[1] == {"message": "detached-chain started"}
                assert post(f"{url}/fan-out") == (200, {"message": 13})
                read_until(second, "cog ends")
                second.send_signal(signal.SIGINT)
                ended = end_of(second)
            finally:
                second.kill()
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("which", servers())
def test_the_recovery_story(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mission E12, E10: on any server; told by its own program, which counts, too."""
    with running(which, tmp_path) as server:
        for name, value in environment_of(server).items():
            monkeypatch.setitem(ENVIRONMENT, name, value)
        ended = end_of(start(tmp_path, "async_rpc/recovery.py", "--lease", "1", "--work", "1"))
    assert (ended.code, ended.err) == (0, ""), ended
    assert ("[server]" in ended.out) == (server is None)
    said = ["baz begins", "kill -9", "baz ends", "bar begins", "bar ends", "foo ends"]
    places = [ended.out.rindex(text) for text in said]
    assert places == sorted(places), ended.out
    assert "The HTTP caller gets {'message': 3}" in ended.out
    assert ended.out.count(": baz begins") == 1
    assert ended.out.endswith(
        "  baz of service c began once\n\nNothing was lost and nothing was done twice.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_story_can_be_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    """Law 16: in the middle, with a request under way, and nothing is left running."""
    process = start(tmp_path, "async_rpc/recovery.py", "--work", "3")
    read_until(process, "kill -9")
    children = children_of(process.pid)
    assert len(children) == 4  # the fifth was just killed
    process.send_signal(number)
    ended = end_of(process)
    assert (ended.code, ended.err) == (130, "\ninterrupted\n")
    assert "Traceback" not in ended.out
    assert not [children[pid] for pid in children if still_runs(pid)]


def test_a_port_in_use_ends_all_of_it_in_one_line(tmp_path: Path) -> None:
    with start(tmp_path, "service.py", "--serve", "--port", "0") as other:
        try:
            assert other.stdout is not None
            port = other.stdout.readline().rpartition(":")[2].strip()
            process = start(tmp_path, "async_rpc/run_all.py", "--server-port", "0", "--port", port)
            read_until(process, "[gateway]")
            children = children_of(process.pid)
            ended = end_of(process)
        finally:
            other.kill()
    assert (ended.code, ended.err) == (1, "gateway ended with 1\n")
    assert not [children[pid] for pid in children if still_runs(pid)]


def test_a_service_alone_ends_at_ctrl_c(tmp_path: Path) -> None:
    """Mission E9: in a terminal of its own, also where no server answers."""
    process = start(tmp_path, "async_rpc/src/service_c.py")
    read_until(process, "service-c is running")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended = end_of(process)
    assert (ended.code, ended.out) == (0, "")
    assert "Traceback" not in ended.err
    assert time.monotonic() - began < 10


def test_help_says_what_a_program_is(tmp_path: Path) -> None:
    """Mission E1: the port of the gateway is 5000, unless another one is asked for."""
    for name in PROGRAMS:
        ended = end_of(start(tmp_path, f"async_rpc/{name}", "--help"))
        about = str(ast.get_docstring(ast.parse((FOLDER / name).read_text())))
        assert (ended.code, ended.err) == (0, "")
        assert " ".join(about.splitlines()[0].split()) in " ".join(ended.out.split()), name
        is_gateway = name in {"run_all.py", "src/gateway.py", "src/one_process.py"}
        assert ("5000)" in " ".join(ended.out.split())) == is_gateway
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run_all.py", "recovery.py"])
def test_the_settings_of_the_environment_stand_unless_others_are_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "ASYNC_RPC_WORK_S", "1.25")
    monkeypatch.setitem(ENVIRONMENT, "ASYNC_RPC_LEASE_S", "7.5")
    shown = " ".join(end_of(start(tmp_path, f"async_rpc/{name}", "--help")).out.split())
    assert "that `baz` takes (1.25)" in shown
    assert "another process may take over (7.5)" in shown
    monkeypatch.setitem(ENVIRONMENT, "ASYNC_RPC_WORK_S", "long")
    wrong = end_of(start(tmp_path, f"async_rpc/{name}"))
    assert wrong.code == 2
    assert "argument --work: invalid float value: 'long'" in wrong.err


def test_the_services_are_of_three_kinds() -> None:
    """P15: a generator, an `async def`, a plain `def`; one function and one file for each."""
    kinds = set()
    for letter in LETTERS:
        tree = ast.parse((FOLDER / "src" / f"service_{letter}.py").read_text())
        registered = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.decorator_list
        ]
        assert len(registered) == 1
        is_generator = any(isinstance(node, ast.Yield) for node in ast.walk(registered[0]))
        kinds.add((type(registered[0]), is_generator))
    assert kinds == {
        *((ast.FunctionDef, True), (ast.AsyncFunctionDef, False), (ast.FunctionDef, False))
    }
