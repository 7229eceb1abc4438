"""The deployed daemon that finishes stragglers, audits tombstones and tells how things stand.

monitor = WriteMonitor(ReliableWriter())
monitor.run()          # until monitor.stop()

The names below are imported when first used (PEP 562): `write-monitor --help` must not wait for boto3.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.loop import WriteMonitor
    from monitor.settings import MonitorSettings
    from monitor.status import MonitorStatus, Observer, SilentObserver, SweepReport

__all__ = ["MonitorSettings", "MonitorStatus", "Observer", "SilentObserver", "SweepReport", "WriteMonitor"]

_HOMES = {"WriteMonitor": "monitor.loop", "MonitorSettings": "monitor.settings"}
"""Where the public names live; those not named here tell of a monitor's status."""

if not TYPE_CHECKING:  # a type checker that saw this would take every misspelt name for a good one

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES.get(name, "monitor.status")), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
