"""Runs `reliable-write` as a user does: in a process of its own, without a terminal."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_OURS = ("AWS_", "RELIABLE_WRITE_")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def facts(self) -> Any:
        return json.loads(self.out)


def run_cli(*arguments: str, environment: Mapping[str, str] | None = None) -> Ran:
    """Only invented credentials get into it, and only the settings given here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    done = subprocess.run(
        [sys.executable, "-m", "reliable_write.cli", *arguments],
        env={**kept, "AWS_EC2_METADATA_DISABLED": "true", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def at(endpoint_url: str, system_table: str) -> dict[str, str]:
    """The environment of a service on this engine."""
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "RELIABLE_WRITE_REGION": "us-east-1",
        "RELIABLE_WRITE_ENDPOINT_URL": endpoint_url,
        "RELIABLE_WRITE_SYSTEM_TABLE": system_table,
    }
