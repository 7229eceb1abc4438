"""The guide's own files, run by pytest as a reader would, find its planted bugs and say what the guide shows."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_docs import ROOT, Block, blocks
from tests.conftest import require_engine
from tests.plugin_process import PLUGIN

GUIDE = ROOT / "docs/testing.md"
_FILE = re.compile(r"# (\w+\.py)\n")


def test_the_guide_finds_its_planted_bugs_and_its_fixes_pass(tmp_path: Path) -> None:
    require_engine("ministack")
    results = [_follow(block, tmp_path) for block in blocks(GUIDE)]
    assert [code for code in results if code is not None] == [
        pytest.ExitCode.TESTS_FAILED,
        pytest.ExitCode.OK,
        pytest.ExitCode.TESTS_FAILED,
        pytest.ExitCode.OK,
    ]


def _follow(block: Block, folder: Path) -> int | None:
    """Write the file, or run the command and find the lines shown; its exit code."""
    if block.language == "python":
        named = _FILE.match(block.text)
        assert named, "each example says which file it is"
        (folder / named[1]).write_text(block.text)
        return None
    command, *shown = block.text.splitlines()
    ran = _pytest(shlex.split(command.removeprefix("$ pytest ")), folder)
    told = iter(ran.stdout.splitlines())
    for line in shown:
        assert any(line.rstrip() in out for out in told), f"not shown: {line}\n{ran.stdout}{ran.stderr}"
    return ran.returncode


def _pytest(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
