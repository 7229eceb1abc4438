"""`reliable-write demo`, end to end as a user runs it: the facts it tells are the facts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reliable_write.cli import shop
from tests.conftest import require_engine
from tests.unit.cli_process import Ran, run_cli


@pytest.fixture(scope="module")
def told() -> Any:
    require_engine("ministack")
    ran = run_cli("demo", "--json")
    assert ran.code == 0, ran.err
    return ran.facts


def test_the_service_was_killed_for_real(told: Any) -> None:
    assert told["service"]["returncode"] == -signal.SIGKILL
    assert told["service"]["killed_by"] == "SIGKILL"
    assert told["service"]["pid"] not in (os.getpid(), told["engine"]["pid"])
    assert 0 < told["service"]["orders_acknowledged"] < told["service"]["orders_planned"]


def test_the_order_it_was_in_was_half_written(told: Any) -> None:
    """Some tables whole, one in part, some with nothing."""
    states = {state["table"]: (state["found"], state["expected"]) for state in told["half_written"]["tables"]}
    assert list(states) == list(shop.KEYS)
    assert states[shop.ORDERS] == (1, 1)
    assert 0 < states[shop.LINES][0] < states[shop.LINES][1]
    assert states[shop.RESERVATIONS][0] == states[shop.CUSTOMERS][0] == 0
    assert told["journal"]["half_written"] == 1


def test_afterwards_every_committed_order_is_whole_and_nothing_else_is_there(told: Any) -> None:
    """What is expected is computed here anew, from the number of orders alone."""
    committed = told["service"]["orders_acknowledged"] + 1
    assert told["orders_committed"] == told["orders_whole"] == committed
    for state in told["tables"]:
        expected = sum(len(shop.order_content(number)[state["table"]]) for number in range(1, committed + 1))
        assert (state["found"], state["expected"]) == (expected, expected)
        assert (state["missing"], state["surplus"]) == ([], 0)
    assert told["journal_entries_after"] == 0
    assert set(told["recovery"]["resumed"]) == {"finished"}


def test_every_check_is_told_and_holds(told: Any) -> None:
    assert told["ok"]
    assert len(told["checks"]) == 7
    assert all(check["ok"] for check in told["checks"])


def test_neither_the_engine_nor_the_service_outlives_it(told: Any) -> None:
    for process in (told["engine"]["pid"], told["service"]["pid"]):
        assert is_gone(process)


def is_gone(pid: int) -> bool:
    """A moment is given to the engine: it ends when its tether sees the demo's end."""
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


def plain() -> Ran:
    require_engine("ministack")
    hostile = {
        "AWS_PROFILE": "no-such-profile",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "RELIABLE_WRITE_ENDPOINT_URL": "http://127.0.0.1:9",
        "COLUMNS": "80",
    }
    return run_cli("demo", "--orders", "1", environment=hostile)


def test_without_a_terminal_it_is_plain_text_whatever_the_environment_holds() -> None:
    """The callers' profile, proxy and settings are not the demo's; the smallest shop works too."""
    ran = plain()
    assert ran.code == 0, ran.err
    assert "\x1b" not in ran.out
    assert not ran.err
    assert max(len(line) for line in ran.out.splitlines()) <= 80
    assert "1 order committed, 1 whole, 0 half. One kill -9" in ran.out
    assert "FAILED" not in ran.out


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("Recovery.resume_all = lambda self, **_: []", "FAILED every committed order is whole in all four tables"),
        ("demo._SERVICE = 'json.tool'", "ended by itself (exit 2) instead of being killed"),
    ],
)
def test_it_fails_in_words_when_what_it_shows_does_not_hold(broken: str, told: str) -> None:
    """A demo that cannot fail shows nothing."""
    require_engine("ministack")
    code = (
        "import sys\n"
        "from reliable_write.recovery import Recovery\n"
        "from reliable_write.cli import demo\n"
        f"{broken}\n"
        "sys.argv = ['reliable-write', 'demo', '--orders', '3']\n"
        "from reliable_write.cli.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
