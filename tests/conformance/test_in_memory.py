"""The simulation's tables are in this suite like an engine; no case is left out in silence."""

from pathlib import Path

import pytest

from tests.conformance.in_memory import LIMITS

CASES = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_is_a_cases(name: str) -> None:
    assert f"def {name}(" in CASES
