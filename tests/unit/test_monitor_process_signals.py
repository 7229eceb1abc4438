"""Signals, sent for real to processes of their own; also as process 1, which the kernel treats apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from monitor.signals import HANDLED, StopSignals, code_of_signal

WAITER = """
import sys, time
from monitor.signals import StopSignals
with StopSignals.installed() as signals:
    print("up", flush=True)
    print(signals.wait(30), signals.received, flush=True)
    print(signals.wait(30), flush=True)   # once asked for, it stays so
    {then}
"""
SECONDS_MAX = 20


@contextmanager
def process(then: str, *prefix: str) -> Iterator[subprocess.Popen[str]]:
    command = [*prefix, sys.executable, "-c", WAITER.format(then=then)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "up\n"
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


@pytest.mark.parametrize("number", HANDLED)
def test_the_first_signal_asks_for_a_stop_and_ends_nothing(number: int) -> None:
    with process("sys.exit(7)") as running:
        running.send_signal(number)
        assert line(running) == f"True {number}"
        assert line(running) == "True"
        assert running.wait(SECONDS_MAX) == 7


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (signal.SIGTERM, signal.SIGTERM, 143),
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGTERM, signal.SIGINT, 130),
        (signal.SIGINT, signal.SIGTERM, 143),
    ],
)
def test_the_second_signal_ends_the_process_at_once_even_in_a_long_wait(first: int, second: int, code: int) -> None:
    """Without cleaning up: `finally` and `atexit` would print."""
    then = "import atexit, threading; atexit.register(print, 'cleaned up'); threading.Event().wait(60)"
    with process(then) as running:
        running.send_signal(first)
        assert line(running) == f"True {first}"
        assert line(running) == "True"
        running.send_signal(second)
        out, err = running.communicate(timeout=SECONDS_MAX)
        assert running.returncode == code == code_of_signal(second)
        assert "cleaned up" not in out
        assert "ending at once" in err


def test_as_process_1_of_a_container_both_signals_count() -> None:
    """The kernel drops signals to process 1 that have no handler there; the child of `unshare` is process 1."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode != 0:
        pytest.skip("not on this machine: unshare may not make a process namespace")
    with process("import threading; threading.Event().wait(60)", "unshare", "--pid", "--fork") as outside:
        (process_1,) = children(outside.pid)
        os.kill(process_1, signal.SIGTERM)
        assert line(outside) == "True 15"
        assert line(outside) == "True"
        os.kill(process_1, signal.SIGTERM)
        assert outside.wait(SECONDS_MAX) == 143


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as told:  # noqa: PTH123 - a file of the kernel
        return [int(child) for child in told.read().split()]


def test_a_wait_without_a_signal_ends_by_itself_and_says_no() -> None:
    with StopSignals.installed() as signals:
        assert signals.wait(0.01) is False
        assert signals.received is None


def test_what_handled_the_signals_before_does_so_again() -> None:
    before = [signal.getsignal(number) for number in HANDLED]
    with StopSignals.installed():
        assert [signal.getsignal(number) for number in HANDLED] != before
    assert [signal.getsignal(number) for number in HANDLED] == before


def test_a_signal_wakes_the_wait() -> None:
    with StopSignals.installed() as signals:
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        sender.start()
        assert signals.wait(SECONDS_MAX) is True
        sender.join()
