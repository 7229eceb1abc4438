"""Monitor processes, and writers to be killed: what runs in children. See `victims`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from monitor import MonitorSettings, SilentObserver, SweepReport, WriteMonitor
from reliable_write import ReliableWriteScope
from reliable_write.recovery import Resumed, ResumeReport
from reliable_write.testing.faults import Call, FaultPlan
from tests.chaos.victims import Home

SWEPT = "swept"


class Teller(SilentObserver):
    """Says its first sweep over the pipe, and each finished write as it is finished."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._has_swept = False

    def sweep_finished(self, report: SweepReport) -> None:
        del report
        if not self._has_swept:
            self._has_swept = True
            with self._lock:
                self._pipe.send((SWEPT, "", 0.0))

    def attempt_finished(self, report: ResumeReport, seconds: float) -> None:
        if report.resumed is not Resumed.HELD_BACK:
            with self._lock:
                self._pipe.send((str(report.resumed), report.write_id, seconds))


def monitor(home: Home, settings: Mapping[str, Any], pipe: Connection) -> None:
    """A monitor until SIGTERM."""
    with home.writer(home.client()) as writer:
        watch = WriteMonitor(writer, MonitorSettings(**settings), observers=[Teller(pipe)])
        signal.signal(signal.SIGTERM, lambda _number, _frame: watch.stop())
        watch.run()


def commit_and_wait(home: Home, tables: list[str], marks: list[str], pipe: Connection) -> None:
    """A writer that says `ready`; at each word from us it commits a scope and stops before its first put."""
    client = home.client()
    stalled = threading.Event()
    waiting: list[str] = []

    def stall(_call: Call) -> None:
        pipe.send(waiting[-1])
        stalled.wait()

    plan = FaultPlan(client)
    for table in tables:
        plan.on("PutItem", stall, having=f'"{table}"'.encode())
    with home.writer(client) as writer:
        pipe.send("ready")
        for mark in marks:
            assert pipe.recv() == "commit"
            waiting.append(mark)
            with ReliableWriteScope(writer) as scope:
                for table in tables:
                    scope.put_item(table, Item={"id": mark})
                scope.commit()
