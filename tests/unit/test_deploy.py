"""What `deploy/` holds is free of lint and says what the package says: table, roles, the daemon's ways."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from monitor.exits import ExitCode
from monitor.settings import MonitorSettings
from reliable_write.permissions import ROLES, Role, policy_document
from reliable_write.system_table import SHAPE, TTL_ATTRIBUTE

DEPLOY = Path(__file__).parents[2] / "deploy"
TEMPLATE = DEPLOY / "cloudformation" / "system-table.yaml"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
UNIT = DEPLOY / "systemd" / "write-monitor.service"
LOGICAL = {"app": "App", "monitor": "Monitor", "admin-read": "AdminRead", "admin-act": "AdminAct"}
FORCED_END_SECONDS = 3
"""What the daemon allows itself beyond the drain."""


# --- the template -------------------------------------------------------------------------------------------------


class _Tags(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML brings no types
    """YAML with CloudFormation's short functions, as `(name, argument)`."""


_Tags.add_multi_constructor("!", lambda loader, name, node: (name, loader.construct_scalar(node)))


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Tags)["Resources"]  # noqa: S506 - a SafeLoader
    return loaded


def test_the_templates_table_is_the_one_that_init_makes(resources: dict[str, Any]) -> None:
    table = resources["SystemTable"]["Properties"]
    assert {name: table[name] for name in SHAPE} == SHAPE
    assert table["TimeToLiveSpecification"] == {"AttributeName": TTL_ATTRIBUTE, "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["DeletionProtectionEnabled"] is True
    assert not {"LocalSecondaryIndexes", "GlobalSecondaryIndexes"} & set(table)


def test_deleting_or_replacing_in_the_stack_keeps_the_table(resources: dict[str, Any]) -> None:
    assert resources["SystemTable"]["DeletionPolicy"] == resources["SystemTable"]["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("role", ROLES)
def test_the_templates_policies_are_those_of_the_package(role: Role, resources: dict[str, Any]) -> None:
    document = resources[f"{LOGICAL[role]}Policy"]["Properties"]["PolicyDocument"]
    expected = policy_document(role, "SYSTEM", ["DESTINATIONS"])
    told = {("GetAtt", "SystemTable.Arn"): "SYSTEM", ("Ref", "DestinationTableArns"): "DESTINATIONS"}
    for statement in document["Statement"]:
        given = statement["Resource"]
        statement["Resource"] = [told[one] for one in (given if isinstance(given, list) else [given])]
    assert document == expected


@pytest.mark.parametrize("role", ROLES)
def test_each_role_carries_its_own_policy_and_no_other(role: Role, resources: dict[str, Any]) -> None:
    role_resource = resources[f"{LOGICAL[role]}Role"]["Properties"]
    assert role_resource["ManagedPolicyArns"] == [("Ref", f"{LOGICAL[role]}Policy")]
    assert "Policies" not in role_resource


def test_cfn_lint_finds_nothing() -> None:
    assert run_tool("cfn-lint", str(TEMPLATE)) == ""


# --- the image ----------------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    assert run_tool("hadolint", str(DOCKERFILE)) == ""


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    """The linter runs and reads the file: a known fault is seen."""
    faulty = tmp_path / "Dockerfile"
    faulty.write_text("FROM python:latest\nRUN cd /tmp\n")
    done = subprocess.run([tool("hadolint"), str(faulty)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DL3007" in done.stdout


def test_the_image_runs_as_nobody_in_particular_with_the_monitor_as_process_1() -> None:
    stages = DOCKERFILE.read_text().split("\nFROM ")
    assert len(stages) == 3, "two stages"
    last = stages[-1]
    assert re.search(r"^USER (?!0|root)\d+:\d+$", last, re.MULTILINE)
    assert 'ENTRYPOINT ["write-monitor"]' in last  # a shell in between would swallow SIGTERM
    assert 'CMD ["write-monitor", "healthcheck", "--probe", "livez"]' in last
    assert "pip install" not in last


def test_the_image_names_no_registry() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert images == ["python:${PYTHON}"] * 2
    assert "://" not in DOCKERFILE.read_text()


def test_the_build_sees_the_wheel_and_the_pins_alone() -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()
    assert ignored == ["*", "!constraints.txt", "!dist/*.whl"]


# --- the unit -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_the_unit_outwaits_the_drain_and_is_watched(unit: dict[str, list[str]]) -> None:
    drain_seconds = MonitorSettings().drain_seconds
    assert seconds(unit["TimeoutStopSec"][0]) >= drain_seconds + FORCED_END_SECONDS + 5
    assert unit["Type"] == ["notify"]
    assert seconds(unit["WatchdogSec"][0]) >= 30


def test_the_unit_does_not_start_again_what_cannot_start(unit: dict[str, list[str]]) -> None:
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == [f"{ExitCode.USAGE:d} {ExitCode.CONFIGURATION:d}"]


def test_the_unit_is_hardened(unit: dict[str, list[str]]) -> None:
    wanted = {
        **dict.fromkeys(("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices"), "yes"),
        **dict.fromkeys(
            ("ProtectKernelModules", "ProtectKernelTunables", "RestrictSUIDSGID", "LockPersonality"), "yes"
        ),
        "ProtectSystem": "strict",
        "CapabilityBoundingSet": "",
        "MemoryDenyWriteExecute": "yes",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",  # the last one for systemd's own socket
    }
    assert {name: unit[name][0] for name in wanted} == wanted


@pytest.fixture
def startable_unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here: systemd-analyze looks for it."""
    program = shutil.which("true")
    assert program is not None
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", UNIT.read_text()))
    return copy


def test_systemd_accepts_the_unit(startable_unit: Path) -> None:
    assert run_tool("systemd-analyze", "verify", "--man=no", str(startable_unit)) == ""


def test_systemd_would_not_accept_a_wrong_unit(startable_unit: Path) -> None:
    startable_unit.write_text(startable_unit.read_text().replace("ProtectSystem=strict", "ProtectSystme=strict"))
    command = [tool("systemd-analyze"), "verify", "--man=no", str(startable_unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ProtectSystme" in done.stdout + done.stderr


def test_systemd_rates_the_unit_as_well_confined(startable_unit: Path) -> None:
    """Its scale: 0 is confined, 10 is exposed; most daemons stand above 9. `--threshold` fails the command."""
    run_tool("systemd-analyze", "security", "--offline=true", "--threshold=15", str(startable_unit), quiet=False)


# --- tools --------------------------------------------------------------------------------------------------------


def tool(name: str) -> str:
    """The path of a linter; those from PyPI lie beside the interpreter."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        assert name == "systemd-analyze", f"{name} belongs to the development packages"
        pytest.skip("not on this machine: systemd-analyze, which comes with systemd")
    return found


def run_tool(name: str, *arguments: str, quiet: bool = True) -> str:
    done = subprocess.run([tool(name), *arguments], capture_output=True, text=True, timeout=120, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told if quiet else ""
