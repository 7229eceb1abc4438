"""No engine goes missing in silence: the rules of tests/conftest.py, on a run of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

USES_DYNOXIDE = "def test_it(dynoxide): pass"
SKIPS = "import pytest\ndef test_it(): pytest.skip('not today')"
SKIPS_ON_MOTO = """
import pytest
from reliable_write.testing.engines import Capability
@pytest.mark.needs(Capability.REQUEST_TOKENS)
def test_it(moto): pass
"""


def run_tests(directory: Path, source: str, **environment: str) -> tuple[int, str]:
    """Run a test file under our conftest, where no engine was fetched; return the exit code and the output."""
    (directory / "test_of_the_rules.py").write_text(source)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RELIABLE", "PYTEST"))}
    inherited.pop("CI", None)
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull, "."],
        cwd=directory,
        env=inherited | {"PYTHONPATH": str(ROOT), "RELIABLE_WRITE_ENGINES": str(directory)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.returncode, finished.stdout


def test_an_absent_engine_is_a_named_skip_on_a_users_machine(tmp_path: Path) -> None:
    code, output = run_tests(tmp_path, USES_DYNOXIDE)
    assert code == pytest.ExitCode.OK, output
    assert "1 skipped" in output
    assert "engine absent: dynoxide: " in output
    assert "make engines" in output


def test_an_absent_engine_is_a_failure_in_ci(tmp_path: Path) -> None:
    code, output = run_tests(tmp_path, USES_DYNOXIDE, CI="true")
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "engine absent: dynoxide: " in output


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dynamodb-local", pytest.ExitCode.OK), ("dynoxide", pytest.ExitCode.TESTS_FAILED)],
)
def test_only_dynamodb_local_may_be_optional_in_ci(tmp_path: Path, name: str, expected: pytest.ExitCode) -> None:
    source = f"def test_it({name.replace('-', '_')}): pass"
    code, output = run_tests(tmp_path, source, CI="true", RELIABLE_WRITE_ENGINES_OPTIONAL=name)
    assert code == expected, output
    assert f"engine absent: {name}: " in output


def test_a_skip_without_an_engines_reason_fails_in_ci(tmp_path: Path) -> None:
    assert run_tests(tmp_path, SKIPS)[0] == pytest.ExitCode.OK
    code, output = run_tests(tmp_path, SKIPS, CI="true")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "a skip without an engine's reason: test_of_the_rules.py::test_it: not today" in output


def test_a_skip_for_what_an_engine_lacks_is_fine_in_ci(tmp_path: Path) -> None:
    code, output = run_tests(tmp_path, SKIPS_ON_MOTO, CI="true")
    assert code == pytest.ExitCode.OK, output
    assert "1 skipped" in output
    assert "engines used: moto" in output
