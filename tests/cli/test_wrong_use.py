"""What cannot be meant is said in a few lines, by the option's name; and every command has help."""

from __future__ import annotations

import re

import pytest
from tests.cli.conftest import Command


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["promises", "get"], "Missing argument 'ID'"),
        (["promises", "create", "x", "--timeout", "3x"], "is no duration"),
        (["promises", "create", "x", "--timeout", ""], "is no duration"),
        (["promises", "create", "x", "--timeout", "999999999w"], "is too long"),
        (["promises", "create", "x", "--tag", "novalue"], "is no name=text"),
        (["promises", "create", "x", "--tag", "=novalue"], "is no name=text"),
        (["promises", "search", "--state", "other"], "is not one of"),
        (["promises", "search", "--limit", "0"], "is not in the range"),
        (["invoke", "x"], "Missing option '--func'"),
        (["invoke", "x", "--func", "f", "--json-args", "{}"], "is a JSON list"),
        (["invoke", "x", "--func", "f", "--version", "-3"], "is not in the range"),
        (["invoke", "x", "--func", "f", "--target", ""], "'--target': target is a group name"),
        (["invoke", "x", "--func", "f", "--target", "poll://"], "names no group"),
        (["invoke", "x", "--func", "f", "--target", "a b"], "no white space"),
        (["invoke", "x", "--func", "f", "--tag", "resonate:target=g"], "it is --target that says"),
        (["schedules", "create", "x", "--cron", "@daily", "--func", "f", "--target", ""], "group"),
        (
            [
                *("schedules", "create", "x", "--cron", "@daily", "--func", "f"),
                *("--tag", "resonate:target=g"),
            ],
            "it is --target that says",
        ),
        (["invoke", "x", "--func", "f", "--json-args", "[]", "--arg", "1"], "not both"),
        (["schedules", "create", "x", "--func", "f"], "Missing option '--cron'"),
        (["schedules", "create", "x", "--cron", "* * * * *"], "either --func or --value"),
        (["promises", "get", "x", "-S", "nonsense"], "'--server': 'nonsense' is no URL such as"),
        (["promises", "get", "x", "-S", ""], "'--server': '' is no URL such as"),
        (["promises", "get", "x", "-S", "http://h:port"], "is no URL such as"),
        (["promises", "get", "x", "-S", "http://u:p@h"], "give --user or --token"),
        (["promises", "get", "x", "-S", "http://h?a=b"], "no query"),
        (["promises", "get", "x", "--wait", "nan"], "no number of seconds"),
        (["promises", "get", "x", "--wait", "inf"], "no number of seconds"),
        (["promises", "get", "x", "--wait", "0"], "is not in the range"),
    ],
)
def test_wrong_use(arguments: list[str], told: str, command: Command) -> None:
    wrong = command(*arguments, server_url=None)
    assert wrong.exit_code == 2
    assert told in wrong.stderr


@pytest.mark.parametrize(
    ("typed", "ms"),
    [
        ("500ms", 500),
        ("30", 30_000),
        ("30s", 30_000),
        ("1.5m", 90_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("0", 0),
    ],
)
def test_durations(typed: str, ms: int) -> None:
    from resonate_aio.cli.arguments import duration

    assert duration(typed) == ms


@pytest.mark.parametrize("verb", [[], ["promises"], ["tasks"], ["schedules"]])
def test_every_command_has_help(verb: list[str], command: Command) -> None:
    listed = command(*verb, "--help", server_url=None)
    assert listed.exit_code == 0
    names = re.findall(r"^  (\w+)  +\S", listed.stdout.partition("Commands:")[2], re.MULTILINE)
    assert names
    for name in names:
        told = command(*verb, name, "--help", server_url=None)
        assert told.exit_code == 0
        assert told.stdout.startswith("Usage: ")
