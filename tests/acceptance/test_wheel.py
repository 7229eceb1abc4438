"""What is shipped works: the wheel, in a clean environment outside the repository, with nothing of ours beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("reliable_write", "monitor")
INSTALL_SECONDS_MAX = 240

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * INSTALL_SECONDS_MAX)]


@dataclass(frozen=True, slots=True)
class Installed:
    """A clean environment in which the wheel is installed, and an empty folder to work in."""

    python: Path
    folder: Path


@pytest.fixture(scope="module")
def files_in_the_packages() -> set[str]:
    """As they were before the wheel was built."""
    found = (path for package in PACKAGES for path in (REPOSITORY / package).rglob("*") if path.is_file())
    return {str(path.relative_to(REPOSITORY)) for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(files_in_the_packages: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert files_in_the_packages
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    run(build, folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    home, folder = tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("elsewhere")
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    constraints = ["-c", str(REPOSITORY / "constraints.txt")]
    quietly = ["--quiet", "--disable-pip-version-check"]
    run([str(python), "-m", "pip", "install", *quietly, *constraints, f"{wheel}[local]"], folder)
    return Installed(python, folder)


def run(command: list[str], folder: Path, *, code: int = 0) -> str:
    """Run it there, without our own module path; its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def test_the_wheel_holds_both_packages_their_types_and_nothing_else(
    wheel: Path, files_in_the_packages: set[str]
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert files_in_the_packages <= names
    assert {name.partition("/")[0] for name in names} == set(PACKAGES)


def test_the_readmes_example_runs_as_it_stands_in_a_clean_environment(installed: Installed) -> None:
    script = installed.folder / "example.py"
    script.write_text(first_example((REPOSITORY / "README.md").read_text()))
    printed = run([str(installed.python), str(script)], installed.folder)
    assert re.search(r"\b[0-9a-f]{36} is written", printed), printed


def first_example(readme: str) -> str:
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    return next(block for block in blocks if "ReliableWriteScope(" in block)


def test_the_installed_library_is_the_wheels_and_not_the_repositorys(installed: Installed) -> None:
    where = run(
        [str(installed.python), "-c", "import reliable_write; print(reliable_write.__file__)"], installed.folder
    )
    assert Path(where.strip()).is_relative_to(installed.python.parents[1])


CONSUMER = """
from decimal import Decimal

from reliable_write import (
    CommitUnknownError,
    Outcome,
    PropagationPendingError,
    Receipt,
    ReliableWriteError,
    ReliableWriter,
    ReliableWriteScope,
    Settings,
)


def move(writer: ReliableWriter, person: str) -> Receipt | None:
    try:
        with ReliableWriteScope(writer) as scope:
            scope.put_item("employees", Item={"id": person, "since": 2026, "pay": Decimal("7.5")})
            scope.put_items("addresses", [{"id": person, "lines": ["a", "b"]}])
            scope.delete_item("people", Key={"id": person})
            scope.delete_items("drafts", ({"id": f"{person}-{n}"} for n in range(3)))
            receipt = scope.commit()
    except CommitUnknownError as unknown:
        assert unknown.outcome is Outcome.UNKNOWN
        receipt = scope.commit()
    except PropagationPendingError as pending:
        report(pending, [failure.table for failure in pending.failures])
        return None
    except ReliableWriteError as error:
        report(error, [])
        return None
    superseded: tuple[str, ...] = receipt.superseded
    return receipt if not superseded else None


def report(error: ReliableWriteError, tables: list[str]) -> None:
    write_id: str | None = error.write_id
    print(write_id, tables)


def main() -> None:
    with ReliableWriter(Settings(system_table="journal", region="eu-west-1")) as writer:
        move(writer, "p-7")
        with writer.begin() as scope:
            scope.put_item("employees", Item={"id": "p-8"})
        for resumed in writer.recovery.resume_all(older_than_seconds=60.0):
            print(resumed.write_id, resumed.reason)
"""

WRONG_USES = {
    "scope.put_item(1, Item=3)": "arg-type",
    "scope.put_item('employees', item={'id': 'p-7'})": "call-arg",
    "scope.delete_items('people', 7)": "call-overload",
    "scope.commit().stmap": "attr-defined",
    "writer.commit()": "attr-defined",
    "receipt: str = scope.commit()": "assignment",
    "ReliableWriter('journal')": "arg-type",
}


def mypy(installed: Installed, source: str, *, code: int = 0) -> str:
    """Our own mypy looking at the clean environment's packages."""
    consumer = installed.folder / "consumer.py"
    consumer.write_text(source)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed.python)]
    return run(
        [*command, "--cache-dir", str(installed.folder / ".mypy_cache"), consumer.name], installed.folder, code=code
    )


def test_a_consumers_code_type_checks_strictly_against_the_installed_wheel(installed: Installed) -> None:
    assert "Success" in mypy(installed, CONSUMER)


def test_wrong_uses_are_told_by_the_type_checker(installed: Installed) -> None:
    """Each on a line of its own; without the package's types everything would be Any and pass."""
    body = textwrap.indent("\n".join(WRONG_USES), "    ")
    source = (
        "from reliable_write import ReliableWriter, ReliableWriteScope\n\n\n"
        f"def misuse(writer: ReliableWriter, scope: ReliableWriteScope) -> None:\n{body}\n"
    )
    told = mypy(installed, source, code=1)
    first_line = 5
    for number, (use, error) in enumerate(WRONG_USES.items(), start=first_line):
        complaints = [line for line in told.splitlines() if line.startswith(f"consumer.py:{number}: error")]
        assert any(f"[{error}]" in line for line in complaints), f"{use}\n{told}"
