"""The deployed daemon that finishes stragglers, audits tombstones and tells how things stand.

monitor = WriteMonitor(ReliableWriter())
monitor.run()          # until monitor.stop()
"""

from monitor.loop import WriteMonitor
from monitor.settings import MonitorSettings
from monitor.status import MonitorStatus, Observer, SilentObserver, SweepReport

__all__ = ["MonitorSettings", "MonitorStatus", "Observer", "SilentObserver", "SweepReport", "WriteMonitor"]
