"""The package's front door opens without boto3, and everything promised stands behind it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reliable_write


@pytest.mark.parametrize("name", reliable_write.__all__)
def test_each_public_name_resolves(name: str) -> None:
    assert getattr(reliable_write, name) is not None


def test_all_is_complete_and_dir_shows_it() -> None:
    """What type checkers see, what `*` gives and what `dir()` lists is the same set of names."""
    tree = ast.parse(Path(reliable_write.__file__).read_text())
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reliable_write.")
        for alias in node.names
    }
    assert typed == set(reliable_write.__all__)
    assert typed <= set(dir(reliable_write))


def test_every_public_error_is_exported() -> None:
    from reliable_write import errors  # noqa: PLC0415 - the test above must not find it imported by us

    raised = {
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.ReliableWriteError)
    }
    assert raised <= set(reliable_write.__all__)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="ReliableRiter"):
        _ = reliable_write.ReliableRiter  # type: ignore[attr-defined]  # which is what mypy should say


def test_importing_the_package_imports_no_boto3() -> None:
    """In a process of its own: this one has imported everything already."""
    code = "import sys, reliable_write; print('boto3' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
