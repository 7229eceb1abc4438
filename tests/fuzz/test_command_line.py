"""Command lines nobody types on purpose: a documented exit code, no traceback, nothing done, a terminal left alone."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from moto import mock_aws

from reliable_write.cli.exits import ExitCode
from reliable_write.cli.usage import _inert_errors
from tests.fuzz.command_line import LEDGER, LOCKS, Place, Ran, check_inert, commands, documents, run
from tests.fuzz.hostile import EVIL, hostile
from tests.fuzz.tally import share, tally, tried
from tests.simulation.memory_world import SYSTEM, TABLE

COMMANDS = dict(commands())
LEFT_OUT = {
    "--debug": "shows the traceback on purpose",
    "--help": "tried by itself below",
    "--version": "tried by itself below",
}
SANE: dict[str, list[str]] = {
    "table": [TABLE, LOCKS, LEDGER, SYSTEM, "no-such"],
    "key": ['{"id":"foreign"}', '{"id":"x"}', '{"id":"\\ud800\\u001b"}', '{"id":1}', "[" * 50_000, "held", "free"],
    "state": ["pending", "quarantined", "unreadable"],
    "older_than": ["0s", "1d", "90"],
    "overdue_after": ["0s", "1d"],
    "timeout": ["0s", "2s"],
    "clean": ["0s", "1d"],
    "op": ["0", "1", "1.0", "3.0", "operations[3]", "99", "1.99"],
    "reason": ["why"],
    "plan_out": ["new.json", "there.json", "no/such/folder.json"],
    "file": ["there.json", "plan.json", "."],
    "source": ["folder", "there.json"],
    "target": ["s3://bucket/prefix", "s3://bucket"],
    "role": ["app", "monitor", "admin-read", "admin-act"],
    "account": ["123456789012"],
    "order": ["strict", "clock"],
    "region": ["us-east-1"],
    "system_table": [SYSTEM, TABLE, "no-such"],
    "action": ["retry"],
}
NUMBERS = ["0", "1", "2", "0.5", "20"]
SELDOM = {"profile", "region", "endpoint_url", "system_table"}
"""Where any of these is odd, nothing else is looked at."""


def value(chance: random.Random, name: str, ids: list[str]) -> str:
    known = ids if name in ("write_id", "write_ids", "write") else SANE.get(name, NUMBERS)
    return chance.choice(known) if chance.random() < 0.7 else hostile(chance)


def command_line(chance: random.Random, ids: list[str]) -> list[str]:
    """A command with some of its options, each with a value that is sane, or is not."""
    name = chance.choice(sorted(COMMANDS))
    words, arguments = name.split(), []
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            most = 1 if parameter.nargs == 1 else 2
            arguments += [value(chance, parameter.name, ids) for _ in range(chance.randint(1, most))]
        elif max(parameter.opts, key=len) not in LEFT_OUT and chance.random() < likelihood(parameter):
            words += option(chance, parameter, ids)
    if hasattr(COMMANDS[name], "commands") or chance.random() < 0.05:
        words += [hostile(chance) for _ in range(chance.randint(0, 2))]
    return [*words, *(["--"] if arguments and chance.random() < 0.5 else []), *arguments]


def likelihood(parameter: Any) -> float:
    if parameter.name in SELDOM:
        return 0.08
    return 0.8 if parameter.required or parameter.name in ("yes", "reason") else 0.3


def option(chance: random.Random, parameter: Any, ids: list[str]) -> list[str]:
    name = max(parameter.opts, key=len)
    if parameter.is_flag:
        return [name]
    given_value = value(chance, parameter.name, ids)
    return [f"{name}={given_value}"] if chance.random() < 0.5 else [name, given_value]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder", "a.txt").write_text("a")
    Path("there.json").write_text("{}")
    return tmp_path


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    assert folder == Path.cwd()
    made = Place(monkeypatch, evil=EVIL)
    assert run(["writes", "retry", *made.ids[:2], "--reason", "why", "--plan-out", "plan.json"]).code == 0
    assert not made.changed()
    return made


def files() -> set[str]:
    return {str(Path(root, name)) for root, _, names in os.walk(".") for name in names}


def check(ran: Ran, arguments: list[str], place: Place, before: set[str]) -> str:
    code = ExitCode(ran.code)
    assert "Traceback" not in ran.out + ran.err
    check_inert(ran)
    made_its_ledger = code is ExitCode.CONFIGURATION and "--init" in arguments  # and only then missed something
    if code in (ExitCode.USAGE, ExitCode.NOT_FOUND, ExitCode.CONFIGURATION) and not made_its_ledger:
        assert not place.changed(), "it failed on its arguments, and wrote"
        assert files() == before, "it failed on its arguments, and left a file"
        assert ran.err or ran.out
    if "--json" in arguments and "--jsonl" not in arguments:
        found = documents(ran.out)
        assert len(found) == 1 or (code is ExitCode.USAGE and not found), "not one document"
    elif "--jsonl" in arguments:
        assert len(documents(ran.out)) == len(ran.out.splitlines())
    return code.name


def test_any_command_line_ends_in_a_documented_way(place: Place) -> None:
    with tally("command lines", "DONE", "USAGE", "CONFIGURATION", "NOT_FOUND", "PARTLY") as counts:
        for seed in range(share(0.08)):
            arguments = command_line(random.Random(seed), place.ids)
            place.restore()
            before = files()
            counts[tried_out(arguments, place, before, seed)] += 1
            counts["inputs"] += 1
            for made in files() - before:
                Path(made).unlink()


def tried_out(arguments: list[str], place: Place, before: set[str], seed: int) -> str:
    try:
        return check(run(arguments), arguments, place, before)
    except BaseException as error:
        error.add_note(f"seed {seed}: reliable-write {[word[:200] for word in arguments]}")
        raise


PLAN_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from([float("inf"), float("nan"), 1e300, {}, [], [[]], {"a": 1}, "1", EVIL, "retry", "discard", "skip"]),
    st.text(st.characters(), max_size=5),
)
DEEP = "[" * 100_000


def test_a_plan_file_of_any_content_is_refused_or_does_what_it_says(place: Place) -> None:
    """What is in it was reviewed by somebody, and may have been garbled by anything since."""
    whole = json.loads(Path("plan.json").read_text())
    with tally("plan files", "USAGE", "DONE") as counts:

        @tried(0.03)
        @example({"made_at_milliseconds": float("inf")}, {"epoch": float("inf")})
        @example({}, {"reason": [[]]})
        @example({}, {"reason": float("inf")})
        @example({"made_by": EVIL, "reason": EVIL}, {"reason": EVIL})
        @given(
            st.dictionaries(st.sampled_from(sorted(whole)), PLAN_VALUES, max_size=2),
            st.dictionaries(st.sampled_from(sorted(whole["writes"][0])), PLAN_VALUES, max_size=2),
        )
        def go(garbled: dict[str, Any], garbled_write: dict[str, Any]) -> None:
            place.restore()
            writes = [{**whole["writes"][0], **garbled_write}, *whole["writes"][1:]]
            Path("garbled.json").write_text(json.dumps({**whole, "writes": writes, **garbled}))
            before = files()
            counts["inputs"] += 1
            for arguments in (["--yes"], ["--dry-run", "--json"]):
                place.restore()
                ran = run(["writes", "apply", "garbled.json", *arguments])
                counts[check(ran, arguments, place, before)] += 1
            for made in files() - before:
                Path(made).unlink()

        go()


@pytest.mark.parametrize("content", [b"", b"\xff", DEEP.encode(), b"{}", b"[]", b"null", b"\x00"])
def test_a_file_that_is_no_plan(place: Place, content: bytes) -> None:
    Path("other.json").write_bytes(content)
    ran = run(["writes", "apply", "other.json", "--yes", "--json"])
    assert check(ran, ["--json"], place, files()) == "USAGE"


@pytest.mark.parametrize(
    "arguments",
    [
        ["locks", "list", LOCKS, "--watch-seconds", "nan"],
        ["locks", "list", LOCKS, "--watch-seconds", "1e300"],
        ["writes", "retry", "--error", "slow", "--reason", "why", "--yes", "--rate", "nan"],
        ["writes", "retry", "--error", "slow", "--reason", "why", "--yes", "--rate", "inf"],
        ["writes", "retry", "--error", "slow", "--reason", "why", "--plan-out", "a\x00b"],
        ["writes", "wait", "0" * 36, "--timeout", "9" * 400],
        ["status", "--overdue-after", "9" * 400],
        ["repair-stamp", TABLE, "--key", DEEP],
        ["repair-stamp", TABLE, "--key", '{"id": NaN}'],
        ["init", "--stamp-attribute", "\udc80"],
        ["upload", "x" * 5000, "s3://bucket"],
        ["upload", "folder", "s3://bucket/\udc80"],
        ["upload", "folder", "folder", "s3://bucket", "--init", "--table", "new"],
        ["upload", "folder", "s3://", "--init", "--table", "new"],
        ["writes", "list", "--watch"],
        ["no-such\x1b[31m\nforged"],
        ["writes", "list", "--no-such\x1b[31m\nforged"],
        ["init", "--order", "\x1b[31m\nforged"],
    ],
    ids=lambda arguments: " ".join(arguments)[:50],
)
def test_what_was_found_once_stays_refused(place: Place, arguments: list[str]) -> None:
    before = files()
    assert check(run(arguments), arguments, place, before) == "USAGE"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_everything(name: str, option: str) -> None:
    ran = run([*name.split(), option])
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: reliable-write {name}".rstrip())


def test_no_command_and_no_option_is_left_out() -> None:
    """Those that show tracebacks or help are left out by name, and nothing else is."""
    options = {max(parameter.opts, key=len) for command in COMMANDS.values() for parameter in command.params}
    assert len(COMMANDS) > 20
    assert set(LEFT_OUT) <= {*options, "--help"}
    assert set(SANE) <= {parameter.name for command in COMMANDS.values() for parameter in command.params}


def test_what_a_usage_error_quotes_is_text_whatever_version_of_typer_says_it() -> None:
    """Later ones escape it themselves, each in its own way; of earlier ones this takes care."""

    class UsageError(Exception):
        def format_message(self) -> str:
            return f"No such option: {EVIL}"

    def fail() -> None:
        with _inert_errors():
            raise UsageError

    with pytest.raises(UsageError) as caught:
        fail()
    check_inert(Ran(2, "", f"Error: {caught.value.format_message()}\n"))


# --- the real client ----------------------------------------------------------------------------------------------

PLACES = [
    "\udc80",
    "\x00",
    "",
    "x" * 300,
    "\x1b[31m",
    "../..",
    "eu:t",
    "arn:aws:dynamodb:us-east-1:123456789012:table/t",
]
ENDPOINTS = ["http://[", "x", "http://h:99999", "http://h:x", "http://\udc80", "http://a b"]
AT_PLACES = {
    "locks list": ["locks", "list"],
    "policy": ["iam", "policy", "--role", "app", "--table"],
    "doctor": ["doctor", "--table"],
    "region": ["status", "--region"],
    "profile": ["status", "--profile"],
}


@pytest.fixture
def real_client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Botocore's own checks of what is asked, and moto behind it."""
    assert folder == Path.cwd()
    for name in [name for name in os.environ if name.startswith(("AWS_", "RELIABLE_WRITE_"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        assert run(["init", "--shards", "1"]).code == 0
        yield


@pytest.mark.usefixtures("real_client")
def test_the_real_client_is_given_nothing_that_it_answers_by_a_traceback() -> None:
    lines = [[*words, odd] for words in AT_PLACES.values() for odd in PLACES]
    lines += [["status", "--endpoint-url", odd] for odd in ENDPOINTS]
    with tally("command lines to the real client", "NOT_FOUND", "CONFIGURATION", "DONE") as counts:
        for arguments in lines:
            ran = run(arguments)
            counts.update(["inputs", ExitCode(ran.code).name])
            assert "Traceback" not in ran.out + ran.err, arguments
            check_inert(ran)


def test_a_demo_that_cannot_start_leaves_the_cursor_as_it_was(place: Place) -> None:
    place.restore()
    ran = run(["demo"], terminal=True)
    assert ran.code == ExitCode.CONFIGURATION
    assert ran.err.count("\x1b[?25l") == ran.err.count("\x1b[?25h") == 1
