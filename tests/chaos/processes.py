"""Child processes forked from a warm server, and an end to every wait."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

PATIENCE_SECONDS = 60.0
"""Longer than anything here takes; past it a test fails instead of hanging."""
KILLED = -int(signal.SIGKILL)


@dataclass(slots=True, eq=False)
class Child:
    """A process and our end of its pipe."""

    process: BaseProcess
    pipe: Connection

    def ended(self) -> int:
        """Wait for its end; its exit code, negative for a signal."""
        self.process.join(PATIENCE_SECONDS)
        code = self.process.exitcode
        assert code is not None, f"{self.process.name} hangs"
        return code

    def receive(self) -> Any:
        """The next message. Raises `EOFError` when it died without one."""
        assert self.pipe.poll(PATIENCE_SECONDS), f"{self.process.name} says nothing"
        return self.pipe.recv()

    def kill(self) -> None:
        """SIGKILL, and wait; what it said before can still be received."""
        self.process.kill()
        self.ended()

    def close(self) -> None:
        """End it however it stands."""
        self.kill()
        self.pipe.close()
        self.process.close()


def start(target: Callable[..., None], *arguments: Any) -> Child:
    """Run `target(*arguments, pipe)` in a process of its own. Threads of this process are not inherited."""
    context = multiprocessing.get_context("forkserver")
    # pytest too: a child loads the program's main module again, which is cheap only where it is loaded already.
    context.set_forkserver_preload(["pytest", "tests.chaos.preload"])
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    return Child(process, ours)


def run(target: Callable[..., None], *arguments: Any) -> Any:
    """Run it to its end in a process of its own; what it said last thing."""
    child = start(target, *arguments)
    said = child.receive()
    assert child.ended() == 0
    child.close()
    return said


def run_to_death(target: Callable[..., None], *arguments: Any) -> None:
    """Run what kills itself, and see that it really died of it."""
    child = start(target, *arguments)
    assert child.ended() == KILLED, arguments
    child.close()
