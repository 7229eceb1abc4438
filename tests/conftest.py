"""Engines for every test that asks for one, and the promise that no engine goes missing in silence.

A skip is either `engine absent: ...` (on a user's machine; a failure under CI=true) or `not on <engine>: <what
it lacks>`, which the marker `needs` brings about; any other skip fails the run in CI. The last lines of a run name
the engines it used and those it could not.
"""

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reliable_write.testing.engines import ENGINES, Capability, Engine, absent

OPTIONAL_VARIABLE = "RELIABLE_WRITE_ENGINES_OPTIONAL"
"""Set to `dynamodb-local` where its registry cannot be reached: the one engine that CI may do without."""

IN_CI = os.environ.get("CI") == "true"
REAL_ENGINES = tuple(name for name in ENGINES if name != "moto")
_ABSENT = "engine absent: "
_LACKING = "not on "


class EnginePool:
    """The engines of one test process, each started when first asked for and kept for all tests."""

    def __init__(self) -> None:
        self._running: dict[str, Engine] = {}

    def get(self, name: str) -> Engine:
        """Return the running engine; skips the test, or fails it in CI, where the engine is absent."""
        if name not in self._running:
            require_engine(name)
            self._running[name] = ENGINES[name]().start()
        return self._running[name]

    def stop(self) -> None:
        while self._running:
            self._running.popitem()[1].stop()


def require_engine(name: str) -> None:
    """Skip the running test, or fail it in CI, if this engine cannot be started here."""
    reason = absent(name)
    if reason is None:
        return
    optional = name == "dynamodb-local" and os.environ.get(OPTIONAL_VARIABLE) == name
    if IN_CI and not optional:
        pytest.fail(f"{_ABSENT}{name}: {reason}", pytrace=False)
    pytest.skip(f"{_ABSENT}{name}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*capabilities): skipped, in words, on engines that lack one")


@pytest.fixture(scope="session")
def engine_pool() -> Iterator[EnginePool]:
    pool = EnginePool()
    yield pool
    pool.stop()


def _used(request: pytest.FixtureRequest, pool: EnginePool, name: str) -> Engine:
    return use(request, pool.get(name))


def use(request: pytest.FixtureRequest, engine: Engine) -> Engine:
    """Let the running test have this engine, unless it lacks what the test needs."""
    request.node.user_properties.append(("engine", engine.name))
    for marker in request.node.iter_markers("needs"):
        _skip_without(engine, marker.args)
    return engine


def _skip_without(engine: Engine, capabilities: tuple[Capability, ...]) -> None:
    for capability in capabilities:
        if capability in engine.lacks:
            pytest.skip(f"{_LACKING}{engine.name}: {engine.lacks[capability]}")


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest, engine_pool: EnginePool) -> Engine:
    """Every engine in turn, started."""
    return _used(request, engine_pool, request.param)


@pytest.fixture(params=sorted(REAL_ENGINES))
def real_engine(request: pytest.FixtureRequest, engine_pool: EnginePool) -> Engine:
    """Every engine in a process of its own in turn, started: what guarantees may be tested on."""
    return _used(request, engine_pool, request.param)


@pytest.fixture
def ministack(request: pytest.FixtureRequest, engine_pool: EnginePool) -> Engine:
    return _used(request, engine_pool, "ministack")


@pytest.fixture
def dynoxide(request: pytest.FixtureRequest, engine_pool: EnginePool) -> Engine:
    """Shared by all tests of this process: one that kills its engine starts its own."""
    return _used(request, engine_pool, "dynoxide")


@pytest.fixture
def dynalite(request: pytest.FixtureRequest, engine_pool: EnginePool) -> Engine:
    return _used(request, engine_pool, "dynalite")


@pytest.fixture
def dynamodb_local(request: pytest.FixtureRequest, engine_pool: EnginePool) -> Engine:
    return _used(request, engine_pool, "dynamodb-local")


@pytest.fixture
def moto(request: pytest.FixtureRequest, engine_pool: EnginePool) -> Engine:
    return _used(request, engine_pool, "moto")


@pytest.fixture
def unique_name() -> Callable[[str], str]:
    """Return a maker of table names that no other test of any process uses."""
    run, numbers = uuid.uuid4().hex[:8], itertools.count()
    return lambda stem: f"{stem}-{run}-{next(numbers)}"


# What the run was made of. Under xdist these hooks see every worker's reports in the controlling process.

_engines_used: set[str] = set()
_skips_without_reason: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _engines_used.update(str(value) for name, value in report.user_properties if name == "engine")
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = _reason_of(report)
        if not reason.startswith((_ABSENT, _LACKING)):
            _skips_without_reason.append(f"{report.nodeid}: {reason}")


def _reason_of(report: pytest.TestReport) -> str:
    words = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return words.removeprefix("Skipped: ")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if IN_CI and _skips_without_reason and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """Tell of the engines after pytest's own list of skips, just before its closing line."""
    yield
    if _engines_used:
        terminalreporter.write_line(f"engines used: {', '.join(sorted(_engines_used))}")
    for name in sorted(ENGINES):
        reason = absent(name)
        if reason is not None:
            terminalreporter.write_line(f"{_ABSENT}{name}: {reason}")
    if IN_CI:
        for skip in _skips_without_reason:
            terminalreporter.write_line(f"FAILED: a skip without an engine's reason: {skip}")
