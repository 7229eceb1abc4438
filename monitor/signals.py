"""SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once.

Handlers are installed by name, because the kernel drops signals to process 1 of a container that has none for them.
A handler runs between two bytecodes of the main thread and so must take no lock (`threading.Event.set` takes one that
the main thread may be holding): it writes a byte to a pipe, and the main thread waits for that byte.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

HANDLED: Final = (signal.SIGTERM, signal.SIGINT)
_SAID: Final = b"Second signal: ending at once. Nothing is lost; another monitor, or the next start, goes on.\n"
_STANDARD_ERROR: Final = 2


def code_of_signal(number: int) -> int:
    """What a shell shows for a process that this signal ended: 143 for SIGTERM, 130 for SIGINT."""
    return 128 + number


class StopSignals:
    """Waits for the request to stop. Only the main thread may make one."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._first: int | None = None

    @classmethod
    @contextlib.contextmanager
    def installed(cls) -> Iterator[StopSignals]:
        """Handlers for both signals, and what was there before once it is over."""
        signals = cls()
        before = {number: signal.signal(number, signals._handle) for number in HANDLED}
        try:
            yield signals
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signals.close()

    @property
    def received(self) -> int | None:
        """The first signal, once there was one."""
        return self._first

    def wait(self, seconds: float) -> bool:
        """Whether a stop is asked for; waits for it so long at most."""
        if self._first is not None:
            return True
        select.select([self._read_end], [], [], max(0.0, seconds))
        return self._first is not None

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read_end)
        os.close(self._write_end)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._first is not None:
            self._end_at_once(number)
            return
        self._first = number
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, b"!")

    @staticmethod
    def _end_at_once(number: int) -> None:
        """Without cleaning up: whoever asks twice does not want to wait for that."""
        with contextlib.suppress(OSError):
            os.write(_STANDARD_ERROR, _SAID)
        os._exit(code_of_signal(number))
