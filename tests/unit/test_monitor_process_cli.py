"""`write-monitor` as an operator meets it: in a process of its own, without a terminal, without DynamoDB."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from monitor.__main__ import with_default_command
from monitor.exits import MEANINGS
from monitor.settings import MonitorSettings
from reliable_write import __version__
from tests.unit.cli_process import Ran

HELP_CPU_SECONDS_MAX = 0.3
NOWHERE = {
    "RELIABLE_WRITE_ENDPOINT_URL": "http://127.0.0.1:1",
    "RELIABLE_WRITE_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "RELIABLE_WRITE_ATTEMPT_DEADLINE_SECONDS": "0.5",
    "RELIABLE_WRITE_READ_TIMEOUT_SECONDS": "0.4",
}


def run(*arguments: str, environment: dict[str, str] | None = None) -> Ran:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RELIABLE_WRITE_"))}
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        env={**kept, "AWS_EC2_METADATA_DISABLED": "true", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


# --- help ---------------------------------------------------------------------------------------------------------


def test_help_answers_at_once() -> None:
    run("--help")  # byte-code is there from now on
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run("--help").code == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < HELP_CPU_SECONDS_MAX


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from monitor.__main__ import main; sys.argv[1:] = ['run', '--help']\n"
        "try: main()\n"
        "except SystemExit: print([m for m in ('boto3', 'uvicorn', 'monitor.settings') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_tells_every_exit_code_and_what_happens_without_a_table() -> None:
    told = " ".join(run("run", "--help").out.split())
    assert not [meaning for meaning in MEANINGS.values() if meaning not in told]
    assert "waits for `reliable-write init`" in told
    assert "--fail-fast" in told


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ([], ["run"]),
        (["--once"], ["run", "--once"]),
        (["run", "--once"], ["run", "--once"]),
        (["--help"], ["--help"]),
        (["--version"], ["--version"]),
        (["config", "show"], ["config", "show"]),
    ],
)
def test_without_a_command_it_runs(given: list[str], taken: list[str]) -> None:
    assert with_default_command(given) == taken


def test_the_console_script_is_the_same_as_the_module() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["write-monitor"] == "monitor.__main__:main"
    assert run("--version").out == f"write-monitor {__version__}\n"


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--poll-seconds", "-1"], {}, "monitor.poll_seconds: "),
        ([], {"RELIABLE_WRITE_MONITOR_POLL_SECONDS": "often"}, "RELIABLE_WRITE_MONITOR_POLL_SECONDS: "),
        ([], {"RELIABLE_WRITE_MONITOR_LEASE_SECONDS": "0.4"}, "must be longer than attempt_deadline_seconds"),
        (["--config", "no-such-file.toml"], {}, "no-such-file.toml cannot be read"),
        (["--set", "monitor.poll=3"], {}, "There is no setting monitor.poll"),
        (["--log-level", "loud"], {}, "monitor.log_level: "),
        (["--http-host", "no-such-host.invalid", "--http-port", "1"], {}, "cannot listen on no-such-host.invalid"),
        ([], {"RELIABLE_WRITE_PROFILE": "no-such-profile"}, "no-such-profile"),
    ],
)
def test_wrong_settings_are_one_paragraph_and_code_3(
    arguments: list[str], environment: dict[str, str], told: str
) -> None:
    """Also those only a later part finds: waiting would not make them right."""
    ran = run(*arguments, environment={**NOWHERE, "RELIABLE_WRITE_MONITOR_HTTP_PORT": "0", **environment})
    assert ran.code == 3
    assert "Traceback" not in ran.err
    assert told in ran.err.splitlines()[-1]
    assert ran.out == ""


@pytest.mark.parametrize("arguments", [["--no-such-option"], ["no-such-command"], ["--set", "nothing"]])
def test_a_wrong_command_line_is_code_2(arguments: list[str]) -> None:
    assert run(*arguments).code == 2


def test_config_show_tells_each_value_and_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "monitor.toml"
    file.write_text("[monitor]\npoll_seconds = 1\nworkers = 3\nreaders = 2\n[writer]\nregion = 'eu-west-1'\n")
    environment = {"RELIABLE_WRITE_MONITOR_WORKERS": "4", "RELIABLE_WRITE_MONITOR_READERS": "5"}
    arguments = ["config", "show", "--origin", "--config", str(file), "--set", "monitor.readers=6"]
    ran = run(*arguments, "--json", environment=environment)
    shown = json.loads(ran.out)
    assert {name: shown[f"monitor.{name}"] for name in ("poll_seconds", "workers", "readers", "lease_seconds")} == {
        "poll_seconds": {"value": 1.0, "origin": f"file {file}"},
        "workers": {"value": 4, "origin": "environment RELIABLE_WRITE_MONITOR_WORKERS"},
        "readers": {"value": 6, "origin": "flag"},
        "lease_seconds": {"value": 10.0, "origin": "default"},
    }
    assert shown["writer.region"] == {"value": "eu-west-1", "origin": f"file {file}"}
    assert set(shown) >= {f"monitor.{name}" for name in MonitorSettings.model_fields}
    lines = run(*arguments, environment=environment).out.splitlines()
    assert [line.split() for line in lines if line.startswith("monitor.readers ")] == [
        ["monitor.readers", "=", "6", "flag"]
    ]


# --- without DynamoDB ---------------------------------------------------------------------------------------------


def test_once_without_dynamodb_is_code_4_and_one_paragraph() -> None:
    ran = run("--once", environment=NOWHERE)
    assert ran.code == 4
    assert "cannot be read" in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err


def test_fail_fast_without_dynamodb_is_code_4() -> None:
    ran = run("--fail-fast", "--http-port", "0", environment=NOWHERE)
    assert ran.code == 4
    assert "cannot be read" in ran.err


def test_healthcheck_of_nobody_is_code_1() -> None:
    ran = run("healthcheck", "--http-port", "1")
    assert ran.code == 1
    assert "no answer from 127.0.0.1 port 1" in ran.out


def test_healthcheck_without_endpoint_is_code_3() -> None:
    assert run("healthcheck", "--http-port", "0").code == 3
