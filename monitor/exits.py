"""How `write-monitor` ends. Never renumbered: supervisors and alarms lean on the codes."""

from __future__ import annotations

import enum
from typing import Final


class ExitCode(enum.IntEnum):
    """Codes under 10 mean the same as those of `reliable-write`."""

    DONE = 0
    PARTLY = 1
    USAGE = 2
    CONFIGURATION = 3
    SERVICE = 4
    DEFECT = 70
    SECOND_SIGINT = 130
    SECOND_SIGTERM = 143


MEANINGS: Final = {
    ExitCode.DONE: "stopped and drained; --once: nothing is stuck; healthcheck: healthy",
    ExitCode.PARTLY: "the drain's time was up (nothing is lost); --once: something is stuck; healthcheck: not healthy",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.CONFIGURATION: "settings, address or (--fail-fast, --once) the system table are not in order",
    ExitCode.SERVICE: "DynamoDB cannot be reached (--fail-fast, --once)",
    ExitCode.DEFECT: "the loop ended by an error of its own; please report it",
    ExitCode.SECOND_SIGINT: "a second signal, SIGINT, ended it at once",
    ExitCode.SECOND_SIGTERM: "a second signal, SIGTERM, ended it at once",
}
assert set(MEANINGS) == set(ExitCode)
