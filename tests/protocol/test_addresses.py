"""What a target may be, and the address that it names (mission table 1.9)."""

from __future__ import annotations

import pytest

from resonate_aio import Resonate
from resonate_aio.protocol.addresses import is_address, normalise_target
from resonate_aio.stores.hub import parse_address


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("workers", "poll://any@workers"),
        ("poll://workers", "poll://any@workers"),
        ("poll://any@workers", "poll://any@workers"),
        ("workers/1", "poll://any@workers/1"),
        ("poll://workers/1", "poll://any@workers/1"),
        ("poll://any@workers/1", "poll://any@workers/1"),
        ("poll://uni@workers/1", "poll://uni@workers/1"),
        ("http://host", "http://host"),
        ("https://[::1]:80/a?b=c", "https://[::1]:80/a?b=c"),
        ("gcps://project/topic", "gcps://project/topic"),
    ],
)
def test_every_spelling(target: str, address: str) -> None:
    """Mission G1 to G5, G7; an address names itself."""
    assert normalise_target(target) == address
    assert normalise_target(address) == address
    assert is_address(address)
    assert (parse_address(address) is not None) == address.startswith("poll://")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("", "is not empty"),
        (" ", "no white space"),
        ("x y", "no white space"),
        ("x\0", "no white space"),
        ("poll://any@x\n", "no white space"),
        ("://", "such as poll://"),
        ("://x", "such as poll://"),
        ("ftp://", "such as poll://"),
        ("poll://", "names no group"),
        ("poll://any@", "names no group"),
        ("poll:///1", "names no group"),
        ("/1", "names no group"),
        ("poll://all@x", "poll://uni@group/pid"),
        ("poll://any@any@x", "poll://uni@group/pid"),
        ("poll://@x", "poll://uni@group/pid"),
        ("any@x", "write poll://any@x"),
        ("poll://uni@x", "poll://uni@x/pid"),
        ("http://", "such as poll://"),
        ("http:///path", "names no host"),
        ("https://:80", "names no host"),
        ("http://[", "names no host"),
    ],
)
def test_what_nobody_can_ever_take_is_refused(target: str, told: str) -> None:
    """Where it is asked for, before anything is stored: such a promise would wait for ever."""
    with pytest.raises(ValueError, match="target is a group name or an address") as refused:
        normalise_target(target)
    assert told in str(refused.value)
    assert repr(target) in str(refused.value)
    with pytest.raises(ValueError, match="target is"):
        Resonate().options(target=target)
