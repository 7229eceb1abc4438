"""The command line as a whole: it answers without heavy imports, tells its exit codes, never shows a traceback."""

import ast
import pathlib
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer.main

import reliable_write
from reliable_write import errors
from reliable_write.cli.app import app
from reliable_write.cli.exits import MEANINGS, ExitCode, ending_of
from tests.unit.cli_process import run_cli

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group, typed as a command
HEAVY = ("boto3", "botocore", "rich.table", "rich.console", "zstandard", "ministack")
SOURCES = pathlib.Path(reliable_write.__file__).parent
REPOSITORY = SOURCES.parent


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["init", "--help"], ["demo", "-h"], ["writes", "retry", "-h"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """What makes `--help` slow is what it imports; a time would only tell how busy this machine is."""
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules]))\n"
        f"sys.argv = ['reliable-write', *{arguments!r}]\n"
        "from reliable_write.cli.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_help_names_every_command_and_every_exit_code() -> None:
    ran = run_cli("--help")
    assert {"init", "status", "writes", "locks", "audit", "doctor", "iam", "repair-stamp", "demo", "upload"} == set(
        COMMANDS
    )
    assert all(command in ran.out for command in COMMANDS)
    assert all(f"{code.value}  {meaning}" in ran.out for code, meaning in MEANINGS.items())


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_command_that_installs_it_is_named(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom reliable_write.cli.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.CONFIGURATION
    assert done.stderr == f"The command line needs {missing}. Run: pip install 'reliable-write[cli]'\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["no-such-command"], ExitCode.USAGE),
        (["init", "--shards", "0"], ExitCode.USAGE),
        (["init", "--order", "wall"], ExitCode.USAGE),
        (["init", "--region", "us-east-1", "--system-table", "no good"], ExitCode.CONFIGURATION),
        (["init", "--endpoint-url", "bogus", "--region", "us-east-1"], ExitCode.CONFIGURATION),
        (["init", "--profile", "no-such-profile"], ExitCode.CONFIGURATION),
        (["init", "--region", "us-east-1", "--endpoint-url", "http://127.0.0.1:9"], ExitCode.CONFIGURATION),
        (["demo", "--orders", "0"], ExitCode.USAGE),
    ],
)
def test_what_cannot_work_ends_in_a_paragraph_and_a_code(arguments: list[str], code: ExitCode) -> None:
    """The one on port 9 has no credentials, which is found before anything is sent."""
    ran = run_cli(*arguments, environment={"HOME": "/nonexistent"})
    assert ran.code == code, ran.err
    assert ran.err.strip()
    assert not ran.out
    assert "Traceback" not in ran.err


def test_a_service_that_cannot_be_reached_is_told_as_such_also_in_json() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
    ran = run_cli("init", "--json", "--endpoint-url", "http://127.0.0.1:9", environment=keys)
    assert ran.code == ExitCode.SERVICE
    assert ran.facts["error"]["kind"] == "EndpointConnectionError"
    assert ran.facts["error"]["exit"] == ran.code


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in run_cli("init", "--profile", "no-such-profile", "--debug").err
    asked = {"RELIABLE_WRITE_DEBUG": "1"}
    assert "Traceback" in run_cli("init", "--profile", "no-such-profile", environment=asked).err


@pytest.mark.parametrize("name", [name for name in reliable_write.__all__ if name.endswith("Error")])
def test_every_error_of_the_library_has_an_exit_code(name: str) -> None:
    ending = ending_of(getattr(errors, name)("what happened"))
    assert ending is not None
    assert ending.code not in (ExitCode.DONE, ExitCode.PARTLY)
    assert ending.told == "what happened"


def test_what_is_nobodys_error_but_ours_keeps_its_traceback() -> None:
    assert ending_of(KeyError("a defect")) is None


def commands_named_in(text: str) -> list[list[str]]:
    """Commands a text tells people to run: after a backtick, a colon, a prompt, or alone on a line."""
    found = re.findall(r"(?:`|: |\$ |^)reliable-write ([a-z][a-z-]*[^`\n]*)", text, re.MULTILINE)
    return [shlex.split(command.replace("'", " ").split("#")[0]) for command in found]


def told_commands() -> list[tuple[str, list[str]]]:
    """From every string in the package, and from the pages a user reads."""
    told = []
    for source in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            text = _text_of(node)
            told += [(f"{source.name}", command) for command in commands_named_in(text)]
    for page in (REPOSITORY / "README.md", *REPOSITORY.glob("docs/**/*.md")):
        told += [(page.name, command) for command in commands_named_in(page.read_text())] if page.is_file() else []
    return told


def _text_of(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "NAME" for part in node.values)  # type: ignore[misc]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_every_command_that_is_named_anywhere_exists_with_its_options() -> None:
    told = told_commands()
    assert len(told) >= 5, "this test has stopped finding the commands it is about"
    for place, words in told:
        command, rest = resolved(words)
        assert command is not None, f"{place} names `reliable-write {' '.join(words)}`"
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h", "--version"}
        used = {word.rstrip(".,)") for word in rest if word.startswith("--")}
        assert used <= known, f"{place}: reliable-write {' '.join(words)} has no {used - known}"


def resolved(words: list[str]) -> tuple[Any, list[str]]:
    """The command these words name, through its groups, and the words left for it; None where there is none.

    A group alone is a command too: it shows its help.
    """
    found, rest = COMMANDS.get(words[0]), words[1:]
    while hasattr(found, "commands") and rest and not rest[0].startswith("-"):
        found, rest = found.commands.get(rest[0].rstrip(".,)")), rest[1:]
    return found, rest
