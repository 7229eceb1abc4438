"""Documentation that does not run is a defect: every fenced example is executed, every named command and link exists.

A page's `python` blocks run in order, in one fresh interpreter, in a service's environment (`RELIABLE_WRITE_*`) that
points at an engine with a system table. A comment `<!-- tables: orders(id), lines(order, sku), stock(id)@eu-west-1 -->`
makes tables for the page.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reliable_write import errors, limits
from reliable_write.settings import Settings
from reliable_write.testing.engines import Engine
from tests.world import World

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
OF_FILES = ROOT / "docs/testing.md"
"""Its examples are files of a reader's project: `test_testing_guide.py` runs them."""
LANGUAGES = {"python", "console", "text"}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TABLES = re.compile(r"<!-- tables:(.*?)-->")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NAMED_COMMAND = re.compile(r"`(reliable-write|make)((?: [a-z][a-z-]*)*)")


@dataclass(frozen=True)
class Block:
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(language, text) for language, text in _FENCE.findall(page.read_text())]


def tables(page: Path) -> list[tuple[str, str, str]]:
    """Name, key or keys, and Region where it is not home."""
    listed = " ".join(_TABLES.findall(page.read_text()))
    return re.findall(r"([\w-]+)\((\w+(?:, \w+)?)\)(?:@([\w-]+))?", listed)


def by_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def with_block(language: str) -> list[Path]:
    return [page for page in PAGES if any(block.language == language for block in blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert page.read_text().count("```") == 2 * len(blocks(page)), "a fence is not closed"


@pytest.mark.parametrize("page", [page for page in with_block("python") if page != OF_FILES], ids=by_name)
def test_python_examples_run(page: Path, ministack: Engine, unique_name: Callable[[str], str], tmp_path: Path) -> None:
    world = World(ministack, unique_name)
    for table, keys, region in tables(page):
        _make_table(world.engine.client(region_name=region) if region else world.client, table, keys.split(", "))
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(block.text for block in blocks(page) if block.language == "python"))
    environment = {**os.environ, **world.environment(), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    world.close()
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout, "an example shows its result"


def _make_table(client: Any, table: str, keys: list[str]) -> None:
    """Empty: several pages have a table of this name, on one engine."""
    with suppress(client.exceptions.ResourceNotFoundException):
        client.delete_table(TableName=table)
    client.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": key, "KeyType": role} for key, role in zip(keys, ("HASH", "RANGE"), strict=False)],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.mark.parametrize("page", with_block("console"), ids=by_name)
def test_commands_run(page: Path, ministack: Engine, unique_name: Callable[[str], str]) -> None:
    world = World(ministack, unique_name)
    environment = {**os.environ, **world.environment(), "PYTHONPATH": str(ROOT)}
    for block in blocks(page):
        for line in block.text.splitlines() if block.language == "console" else ():
            if line.startswith("$ "):
                _run(shlex.split(line.removeprefix("$ ")), environment)
    world.close()


def _run(command: list[str], environment: dict[str, str]) -> None:
    match command:
        case ["make", target]:
            assert target in make_targets(), f"make {target}"
        case ["pip", "install", requirement]:
            assert re.fullmatch(r"(reliable-write|\.)(\[[a-z,]+\])?", requirement)
            assert set(re.findall(r"[a-z]+", requirement.partition("[")[2])) <= extras()
        case ["reliable-write", *arguments]:
            ran = subprocess.run(
                [sys.executable, "-m", "reliable_write.cli", *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert ran.returncode == 0, f"{' '.join(command)}: {ran.stdout}{ran.stderr}"
        case _:
            pytest.fail(f"the runner does not know {command[0]!r}")


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_named_commands_exist(page: Path) -> None:
    for program, words in _NAMED_COMMAND.findall(page.read_text()):
        first = words.split()[:1]
        if program == "make" and first:
            assert first[0] in make_targets(), f"make{words}"
        elif program == "reliable-write" and first:
            ran = subprocess.run(
                [sys.executable, "-m", "reliable_write.cli", first[0], "--help"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                cwd=ROOT,
            )
            assert ran.returncode == 0, f"reliable-write{words}"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path), link


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_setting_is_on_its_page_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE))
    assert set(rows) == set(Settings.model_fields)
    defaults = Settings(delete_finished_inline=False)
    for name, told in rows.items():
        default = getattr(defaults, name)
        if isinstance(default, float | int) and not isinstance(default, bool):
            assert float(told) == default, name
        elif isinstance(default, str):
            assert told == f"`{default}`", name


def test_every_error_is_on_its_page() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    named = set(re.findall(r"^\| `([A-Z]\w+)` \|", page, re.MULTILINE))
    bases = {"ReliableWriteError", "WriteRejectedError"}
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert named == kinds - bases


def test_limits_told_in_the_docs_are_the_limits() -> None:
    told = " ".join(page.read_text() for page in PAGES)
    assert f"{limits.SCOPE_ITEMS_MAX} items" in told
    assert f"{limits.SCOPE_BYTES_MAX // limits.MB} MB" in told
    assert f"{limits.CHUNK_BYTES_MAX // limits.KB} KB" in told
