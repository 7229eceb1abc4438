"""Command lines of `write-monitor` that nobody types on purpose: a documented exit code, no traceback, plain text.

What comes after the command line is not run: the daemon is told here which settings it was given.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import typer.main

from monitor import cli
from monitor.exits import ExitCode
from monitor.settings import Configuration
from tests.fuzz.command_line import Ran, check_inert, commands, run
from tests.fuzz.hostile import EVIL, hostile
from tests.fuzz.tally import share, tally

COMMAND = typer.main.get_command(cli.app)
COMMANDS = dict(commands(COMMAND))
LEFT_OUT = {"--help", "--version"}
SANE: dict[str, list[str]] = {
    "config_file": ["good.toml", "evil.toml", "none.toml", "."],
    "more": ["monitor.workers=8", "monitor.workers=", "monitor.workers", "writer.order=clock", "=", "a.b=1", "=1"],
    "system_table": ["journal"],
    "region": ["us-east-1"],
    "endpoint_url": ["http://127.0.0.1:1"],
    "http_host": ["127.0.0.1", "::1"],
    "http_port": ["0", "8080", "99999", "-1"],
    "log_format": ["json", "console"],
    "log_level": ["debug", "info", "error"],
    "probe": ["livez", "readyz"],
}
NUMBERS = ["0", "1", "2", "0.5", "20", "nan", "inf"]
FILES = {
    "good.toml": '[monitor]\nworkers = 3\n[writer]\nregion = "us-east-1"\n',
    "evil.toml": f"[monitor]\n{json.dumps(EVIL)} = {json.dumps(EVIL)}\nlog_level = {json.dumps(EVIL)}\n",
}


@pytest.fixture
def handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    """The settings that came through."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_text(content)
    for name in [name for name in os.environ if name.startswith(("AWS_", "RELIABLE_WRITE_"))]:
        monkeypatch.delenv(name)
    given: list[Configuration] = []

    def take(configuration: Configuration, **_: Any) -> ExitCode:
        given.append(configuration)
        return ExitCode.DONE

    monkeypatch.setattr(cli, "_run", take)
    monkeypatch.setattr(cli, "_sweep_once", take)
    monkeypatch.setattr("monitor.logs.configure_logs", lambda *_: None)
    return given


def value(chance: random.Random, name: str) -> str:
    return chance.choice(SANE.get(name, NUMBERS)) if chance.random() < 0.7 else hostile(chance)


def command_line(chance: random.Random) -> list[str]:
    """A command with some of its options, each with a value that is sane, or is not."""
    name = chance.choice(sorted(COMMANDS))
    words = name.split()
    for parameter in COMMANDS[name].params:
        option = max(parameter.opts, key=len)
        if option in LEFT_OUT or chance.random() > 0.25:
            continue
        words += [option] if parameter.is_flag else [option, value(chance, parameter.name)]
    return [*words, *(hostile(chance) for _ in range(chance.randint(1, 2)) if chance.random() < 0.05)]


def check(ran: Ran, arguments: list[str]) -> str:
    code = ExitCode(ran.code)
    assert "Traceback" not in ran.out + ran.err
    check_inert(ran)
    assert code is ExitCode.DONE or ran.err or ran.out, "it failed, and said nothing"
    if (
        arguments[:2] == ["config", "show"]
        and "--json" in arguments
        and code is ExitCode.DONE
        and "-h" not in arguments
    ):
        json.loads(ran.out, parse_constant=pytest.fail)
    return code.name


def test_any_command_line_of_the_monitor_ends_in_a_documented_way(handed_over: list[Configuration]) -> None:
    with tally("command lines of the monitor", "DONE", "USAGE", "CONFIGURATION") as counts:
        for seed in range(share(0.08)):
            arguments = command_line(random.Random(seed))
            try:
                counts[check(run(arguments, command=COMMAND), arguments)] += 1
            except BaseException as error:
                error.add_note(f"seed {seed}: write-monitor {[word[:200] for word in arguments]}")
                raise
            counts["inputs"] += 1
    assert handed_over, "no daemon was ever begun"


def test_no_command_and_no_option_of_the_monitor_is_left_out() -> None:
    options = {max(parameter.opts, key=len) for command in COMMANDS.values() for parameter in command.params}
    assert {"run", "healthcheck", "config show"} <= set(COMMANDS)
    assert {*options, "--help"} >= LEFT_OUT
    assert set(SANE) <= {parameter.name for command in COMMANDS.values() for parameter in command.params}
