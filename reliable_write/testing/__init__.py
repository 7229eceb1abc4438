"""Test your own service: faults at every call it makes, and a place where they may do their worst.

`every_crash_point` runs a function of yours once for each call it makes, lets it die there, lets the monitor work, and
lets you look. docs/testing.md begins with an example. What is here:

- `every_crash_point`, `CrashPoint`, `CrashPoints`, `Aftermath`, `CrashPointsError`: `crash_points`.
- `Kind`, `CRASHES`, `EVERY_KIND` and the single kinds of faults it may try: `kinds`.
- `Sandbox`, `LeftWrite`: an engine's address with the system table, your tables, writers, a monitor: `sandbox`.
- `FakeTime`: a clock that stands still until it is moved: `clock`.
- `FaultPlan` and the single faults (`crash`, `lose_answer`, `throttle`, ...) for a test of one place: `faults`.
- `Meter`: what a client is billed: `meter`. `ENGINES`: real engines in processes of their own: `engines`.
- Fixtures for pytest, which finds them by itself once this package is installed: `plugin`.

The names below are imported when first used (PEP 562): pytest loads the plugin in every project that has the package
installed, and must not wait for boto3.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reliable_write.testing.clock import FakeTime
    from reliable_write.testing.crash_points import (
        Aftermath,
        CrashPoint,
        CrashPoints,
        CrashPointsError,
        every_crash_point,
    )
    from reliable_write.testing.engines import ENGINES
    from reliable_write.testing.faults import (
        Call,
        Echo,
        Fault,
        FaultPlan,
        InFlight,
        SimulatedCrash,
        Stall,
        answer,
        cancel,
        collide,
        conflict,
        crash,
        deny,
        duplicate,
        kill,
        lose_answer,
        lose_answer_on_the_way,
        refuse_connection,
        server_error,
        throttle,
    )
    from reliable_write.testing.kinds import CRASHES, EVERY_KIND, Kind, Meanwhile
    from reliable_write.testing.meter import Meter
    from reliable_write.testing.sandbox import LeftWrite, Sandbox

__all__ = [
    "CRASHES",
    "ENGINES",
    "EVERY_KIND",
    "Aftermath",
    "Call",
    "CrashPoint",
    "CrashPoints",
    "CrashPointsError",
    "Echo",
    "FakeTime",
    "Fault",
    "FaultPlan",
    "InFlight",
    "Kind",
    "LeftWrite",
    "Meanwhile",
    "Meter",
    "Sandbox",
    "SimulatedCrash",
    "Stall",
    "answer",
    "cancel",
    "collide",
    "conflict",
    "crash",
    "deny",
    "duplicate",
    "every_crash_point",
    "kill",
    "lose_answer",
    "lose_answer_on_the_way",
    "refuse_connection",
    "server_error",
    "throttle",
]

_HOMES = {
    "Aftermath": "crash_points",
    "CrashPoint": "crash_points",
    "CrashPoints": "crash_points",
    "CrashPointsError": "crash_points",
    "every_crash_point": "crash_points",
    "CRASHES": "kinds",
    "EVERY_KIND": "kinds",
    "Kind": "kinds",
    "Meanwhile": "kinds",
    "ENGINES": "engines",
    "FakeTime": "clock",
    "LeftWrite": "sandbox",
    "Sandbox": "sandbox",
    "Meter": "meter",
}
"""Where the public names live; those not named here are faults."""

if not TYPE_CHECKING:  # a type checker that saw this would take every misspelt name for a good one

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'faults')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
