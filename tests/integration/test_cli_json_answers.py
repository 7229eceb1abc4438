"""Each command's answers for machines keep to the shipped schemas: data and errors, as one document and as lines.

The commands are asked of the app itself, so that a new one without a sample from a real run fails here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from reliable_write import Lock
from reliable_write.cli.app import app
from reliable_write.cli.exits import ExitCode
from reliable_write.testing.engines import Engine
from tests.buckets import Bucket, fill
from tests.clocks import HastyTime
from tests.integration.stuck_writes import Ran, Stuck, cli, one, put, valid
from tests.world import World, world

__all__ = ["world"]


class Sample(NamedTuple):
    """A real run: what comes after the command, and the schema of what it answers (of one line, for lines)."""

    more: str
    schema: str


WHY = "--reason why --yes"
JSON = {
    "init": [Sample("", "init"), Sample("--check", "init"), Sample("--check --system-table absent", "init")],
    "status": [Sample("", "status"), Sample("--exit-code", "status")],
    "doctor": [Sample("--table {table}", "doctor"), Sample("--system-table absent", "doctor")],
    "repair-stamp": [Sample('{table} --key {{"id":"foreign"}} ' + more, "repair-stamp") for more in ("--dry-run", WHY)],
    "demo": [Sample("--orders 3", "demo")],
    "audit list": [Sample("", "audit-list"), Sample("--reveal", "audit-list")],
    "locks list": [Sample("{locks}", "locks-list"), Sample("{locks} --all --watch-seconds 20", "locks-list")],
    "locks show": [
        Sample("{locks} held", "locks-show"),
        Sample("{locks} held --reveal --watch-seconds 20", "locks-show"),
    ],
    "locks release": [
        Sample("{locks} held --dry-run", "locks-release"),
        Sample(f"{{locks}} held --watch-seconds 20 {WHY}", "locks-release"),
    ],
    "upload": [
        Sample("folder s3://{bucket} {s3}", "upload"),
        Sample("folder s3://{bucket} --dry-run {s3}", "upload"),
        Sample("folder s3://{bucket} --clean 0s {s3}", "upload"),
        Sample("folder s3://no-such-bucket {s3}", "upload"),
    ],
    "writes list": [Sample("", "writes-list"), Sample("--table {table}", "writes-list")],
    "writes show": [Sample("{id}", "writes-show"), Sample("{id} --reveal", "writes-show")],
    "writes explain": [Sample("{id}", "writes-explain"), Sample("typo", "writes-explain")],
    "writes wait": [Sample("{id}", "writes-wait"), Sample("0" * 36, "writes-wait")],
    "writes retry": [
        Sample(f"{{id}} {WHY}", "writes-deed"),
        Sample(f"{{id}} {WHY} --now", "writes-deed"),
        Sample("{id} --dry-run", "writes-plan"),
        Sample("--error nobody --dry-run", "writes-plan"),
        Sample(f"--error nobody {WHY}", "writes-plan"),
        Sample("{id} --reason why --plan-out new.json", "writes-plan"),
        Sample("--error nobody --reason why --plan-out new.json", "writes-plan"),
    ],
    "writes skip": [Sample(f"{{id}} --op 0 {WHY}", "writes-deed"), Sample("{id} --op 0 --dry-run", "writes-plan")],
    "writes quarantine": [Sample(f"{{id}} {WHY}", "writes-deed"), Sample("{id} --dry-run", "writes-plan")],
    "writes discard": [Sample(f"{{id}} {WHY}", "writes-deed"), Sample("{id} --dry-run", "writes-plan")],
    "writes apply": [Sample("plan.json --yes", "writes-deed"), Sample("plan.json --dry-run", "writes-plan")],
}
LINES = {
    "audit list": [Sample("", "audit-deed")],
    "locks list": [Sample("{locks}", "lock")],
    "writes list": [Sample("", "write"), Sample("--table {table}", "write")],
    "writes retry": [Sample(f"{{id}} {WHY}", "deed-result"), Sample("{id} --dry-run", "reviewed-write")],
    "writes quarantine": [Sample(f"{{id}} {WHY}", "deed-result"), Sample("{id} --dry-run", "reviewed-write")],
    "writes discard": [Sample(f"{{id}} {WHY}", "deed-result"), Sample("{id} --dry-run", "reviewed-write")],
    "writes apply": [Sample("plan.json --yes", "deed-result"), Sample("plan.json --dry-run", "reviewed-write")],
}
ALWAYS_JSON = {"iam policy": [Sample("--role app", "iam-policy")]}
"""Print JSON without being asked for it."""
FORMS = {"--json": JSON, "--jsonl": LINES, "": ALWAYS_JSON}
RUNS = [
    pytest.param(command, form, sample, id=f"{command} {sample.more} {form}".strip())
    for form, samples in FORMS.items()
    for command, of_command in samples.items()
    for sample in of_command
]
FAILING = [(command, form) for form in ("--json", "--jsonl") for command in FORMS[form]]
ARGUMENTS = {
    "repair-stamp": ["t", "--key", "{}"],
    "locks list": ["t"],
    "locks show": ["t", "x"],
    "locks release": ["t", "x"],
    "upload": ["folder", "s3://bucket"],
    "writes show": ["x"],
    "writes explain": ["x"],
    "writes wait": ["0" * 36],
    "writes skip": ["x", "--op", "0"],
    "writes apply": ["absent.json"],
    **{f"writes {deed}": ["x", *WHY.split()] for deed in ("retry", "quarantine", "discard")},
}
"""What a command line needs to be one, where it is about to fail for another reason."""


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All commands of the app by their full names."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def forms(command: Any) -> set[str]:
    options = {name for parameter in command.params for name in parameter.opts}
    return {"--json", "--jsonl"} & options or {""}


def test_each_form_of_each_command_has_a_sample() -> None:
    offered = {(name, form) for name, command in commands(typer.main.get_command(app)) for form in forms(command)}
    sampled = {(command, form) for form, samples in FORMS.items() for command in samples}
    assert len(offered) > 20
    assert sampled == offered


def test_each_shipped_schema_is_that_of_some_answer() -> None:
    shipped = {file.name for file in (resources.files("reliable_write.cli") / "schemas").iterdir()}
    sampled = {sample.schema for samples in FORMS.values() for runs in samples.values() for sample in runs}
    assert shipped == {f"{name}.json" for name in sampled | {"error", "plan-file"}}


@pytest.fixture
def stuck(
    world: World,
    ministack: Engine,
    unique_name: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """A world with a quarantined write, an unreadable one, a foreign stamp, an audit record and a plan file.

    Beside it a folder and a bucket.
    """
    left, table = Stuck(world.writer()), world.table("t")
    entry = left.quarantined(one(put(table, "x")))
    left.commit(one(put(table, "newer")), format=9)
    left.commit(one(put(table, "damaged")), payload=b"0" * 40)
    left.beat()
    world.client.put_item(TableName=world.system_table, Item={"pk": {"S": "J#003"}, "sk": {"S": "rubbish"}})
    world.client.put_item(TableName=table, Item={"id": {"S": "foreign"}, "_rw": {"N": "7"}})
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # for the demo's own processes
    monkeypatch.chdir(tmp_path)
    made = cli(world, "writes", "quarantine", entry.write_id, *WHY.split())
    assert made.code == ExitCode.DONE
    made = cli(world, "writes", "retry", entry.write_id, "--reason", "why", "--plan-out", "plan.json")
    assert made.code == ExitCode.DONE, made.err
    valid(json.loads(Path("plan.json").read_text()), "plan-file")
    locks = world.table("locks")
    Lock(left.writer, locks, "held", lease_seconds=200, heartbeat=False).acquire(data={"raw": b"1"})
    Lock(left.writer, locks, "free", lease_seconds=200, heartbeat=False).acquire().release()
    bucket = Bucket(ministack.endpoint_url, unique_name("bucket"))
    bucket.s3.put_object(Bucket=bucket.name, Key="other", Body=b"theirs")
    bucket.s3.create_multipart_upload(Bucket=bucket.name, Key="theirs")
    bucket.close()
    (fill(tmp_path / "folder", {"one": b"1", "other": b"mine"}) / "link").symlink_to("one")
    options = f"--init --table {unique_name('ledger')} --s3-endpoint-url {ministack.endpoint_url}"
    return {"id": entry.write_id, "table": table, "locks": locks, "bucket": bucket.name, "s3": options}


@pytest.mark.parametrize(("command", "form", "sample"), RUNS)
def test_what_it_answers_keeps_to_its_schema(
    world: World,
    ministack: Engine,
    stuck: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    form: str,
    sample: Sample,
) -> None:
    """The demo starts an engine of its own; asked for here so that its absence is told as any other's."""
    assert ministack.endpoint_url
    monkeypatch.setattr("reliable_write.cli.connect.SystemTime", HastyTime)  # a discard waits for attempts under way
    arguments = [*command.split(), *sample.more.format(**stuck).split(), *form.split()]
    ran = cli(world, *arguments)
    answers = ran.lines if form == "--jsonl" else [ran.facts]
    assert answers, ran.err
    for answer in answers:
        valid(answer, sample.schema)


@pytest.mark.parametrize(("command", "form"), FAILING)
def test_what_it_answers_where_it_fails_is_one_line_that_keeps_to_the_schema_of_errors(
    world: World, command: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reliable_write.embedded.ministack.ministack_missing", lambda: "It is not here.")
    nowhere = [] if command == "demo" else ["--region", ""]
    ran: Ran = cli(world, *command.split(), *ARGUMENTS.get(command, []), *nowhere, form)
    (line,) = ran.lines
    assert valid(line, "error")["error"]["exit"] == ran.code == ExitCode.CONFIGURATION
    assert line["error"]["message"] in ran.err
