"""What a client is told of its server and cannot mean is said at construction (C6 to C8, C20)."""

from __future__ import annotations

import os
from base64 import b64decode
from typing import Any

import pytest

from resonate_aio import Resonate
from resonate_aio.stores.http.credentials import Credentials
from resonate_aio.stores.http.session import HttpSession

URL = "http://localhost:8001"


@pytest.fixture(autouse=True)
def no_server_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith("RESONATE_"):
            monkeypatch.delenv(name)


def test_a_user_name_with_a_colon() -> None:
    """A server would take what follows it for the password."""
    for make in (Resonate, Resonate.remote):
        options: dict[str, Any] = {"auth": ("a:c", "s3cret")}
        if make is Resonate:
            options["url"] = URL
        with pytest.raises(ValueError, match="auth: a user name holds no colon") as caught:
            make(**options)
        assert "s3cret" not in str(caught.value)


def test_a_password_that_is_no_unicode() -> None:
    with pytest.raises(ValueError, match=r"auth: .*Unicode") as caught:
        Resonate(url=URL, auth=("ada", "s3cret\udc80"))
    assert "s3cret" not in str(caught.value)


def test_a_password_is_sent_as_utf_8() -> None:
    header = Credentials(auth=("ada", "pä€:s")).header(None)
    assert header is not None
    assert b64decode(header.removeprefix("Basic ")).decode() == "ada:pä€:s"


ENVIRONMENTS: list[tuple[dict[str, str], dict[str, Any], str]] = [
    ({"RESONATE_USERNAME": "a:c", "RESONATE_PASSWORD": "hush"}, {"url": URL}, "RESONATE_USERNAME"),
    ({"RESONATE_PASSWORD": "hush"}, {"url": URL}, "RESONATE_PASSWORD .* RESONATE_USERNAME is not"),
    ({"RESONATE_TOKEN": "hush\n"}, {"url": URL}, "RESONATE_TOKEN .* line break"),
    ({"RESONATE_HOST": "h", "RESONATE_PORT": "x"}, {}, "RESONATE_PORT is a port"),
    ({"RESONATE_HOST": "h", "RESONATE_PORT": "70000"}, {}, "RESONATE_PORT is a port"),
    ({"RESONATE_HOST": "http://h:99"}, {}, "RESONATE_HOST is a host"),
    ({"RESONATE_HOST": "h/base"}, {}, "RESONATE_HOST is a host"),
    ({"RESONATE_HOST": "http://ada:hush@h:99"}, {}, "RESONATE_HOST is a host"),
    ({"RESONATE_PORT_MESSAGE_SOURCE": "x"}, {"url": URL}, "RESONATE_PORT_MESSAGE_SOURCE is a port"),
]


@pytest.mark.parametrize(("environment", "given", "expected"), ENVIRONMENTS)
def test_variables_that_cannot_be_meant(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    given: dict[str, Any],
    expected: str,
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=expected) as caught:
        Resonate(**given)
    assert "hush" not in str(caught.value)


REMOTES: list[tuple[dict[str, str], dict[str, Any], str]] = [
    ({}, {"host": "http://x:99"}, "host is a host.*port is given apart.*got 'http://x:99'"),
    ({}, {"host": "::1"}, "host is a host"),
    ({"RESONATE_PORT": "x"}, {}, "RESONATE_PORT is a port"),
    ({"RESONATE_PORT_STORE": "x"}, {"host": "h"}, "RESONATE_PORT_STORE is a port"),
    ({"RESONATE_HOST_STORE": "http://s:1"}, {}, "RESONATE_HOST_STORE is a host"),
    ({"RESONATE_HOST_MESSAGE_SOURCE": "http://m:2"}, {}, "RESONATE_HOST_MESSAGE_SOURCE is a host"),
]


@pytest.mark.parametrize(("environment", "given", "expected"), REMOTES)
def test_hosts_and_ports_of_remote(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    given: dict[str, Any],
    expected: str,
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=expected):
        Resonate.remote(**given)


def test_a_password_that_is_not_used_is_nobodys_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token wins, and what was given wins over the environment."""
    monkeypatch.setenv("RESONATE_PASSWORD", "hush")
    Resonate(url=URL, token="t")
    Resonate(url=URL, auth=("ada", "s3cret"))
    Resonate()


def test_a_token_that_no_request_can_carry() -> None:
    with pytest.raises(ValueError, match="token is not empty and holds no control") as caught:
        HttpSession(URL, token="two\nlines")
    assert "lines" not in str(caught.value)
