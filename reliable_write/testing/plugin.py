"""Fixtures for pytest, all named `reliable_write_...`; a test whose sandbox holds an unfinished write at its end fails.

Nothing but pytest is imported before a fixture is asked for: the plugin is loaded wherever the package is installed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from monitor import WriteMonitor
    from reliable_write import ReliableWriter
    from reliable_write.testing.clock import FakeTime
    from reliable_write.testing.sandbox import Sandbox

ENDPOINT_OPTION = "--reliable-write-endpoint"
LEAVES_PENDING = "reliable_write_leaves_pending"
_SANDBOX = "reliable_write_sandbox"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tell pytest of our option."""
    parser.getgroup("reliable-write").addoption(
        ENDPOINT_OPTION,
        metavar="URL",
        help="an engine that runs already, such as DynamoDB Local; without it one is started (reliable-write[local])",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of our marker."""
    config.addinivalue_line("markers", f"{LEAVES_PENDING}: this test may leave unfinished writes in its sandbox")


@pytest.fixture(scope="session")
def reliable_write_endpoint(pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of an engine for all tests: the one of `--reliable-write-endpoint`, or an embedded one."""
    given = pytestconfig.getoption(ENDPOINT_OPTION)
    if given:
        yield given
        return
    from reliable_write.embedded import EmbeddedEngine  # noqa: PLC0415 - see the module's docstring

    with EmbeddedEngine.start() as engine:
        yield engine.endpoint_url


@pytest.fixture
def reliable_write_tables() -> Mapping[str, str | tuple[str, str]]:
    """The tables of your service and their keys, as `ReliableWriter.local` takes them: override it."""
    return {}


@pytest.fixture
def reliable_write_sandbox(
    reliable_write_endpoint: str,
    reliable_write_tables: Mapping[str, str | tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sandbox]:
    """Empty tables for this test. `ReliableWriter()` and `boto3.client("dynamodb")` lead there by the environment."""
    from reliable_write.testing.sandbox import Sandbox  # noqa: PLC0415 - see the module's docstring

    with Sandbox(reliable_write_endpoint, reliable_write_tables) as sandbox:
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        yield sandbox


@pytest.fixture
def reliable_write_writer(reliable_write_sandbox: Sandbox) -> ReliableWriter:
    """A writer on the sandbox's tables. Crash points take fresh ones instead: `sandbox.writer()`."""
    return reliable_write_sandbox.writer()


@pytest.fixture
def reliable_write_monitor(reliable_write_sandbox: Sandbox) -> WriteMonitor:
    """A monitor of the sandbox, which goes by its clock; `reliable_write_sandbox.recover()` lets time pass as well."""
    return reliable_write_sandbox.monitor()


@pytest.fixture
def reliable_write_time(reliable_write_sandbox: Sandbox) -> FakeTime:
    """The clock of the sandbox's writers and monitors: `move(seconds)`."""
    return reliable_write_sandbox.time


@pytest.fixture
def reliable_write_crash_points(reliable_write_sandbox: Sandbox) -> Callable[..., Any]:
    """`every_crash_point` in this sandbox: `reliable_write_crash_points(run, check)`."""
    from reliable_write.testing.crash_points import every_crash_point  # noqa: PLC0415 - see the module's docstring

    return functools.partial(every_crash_point, sandbox=reliable_write_sandbox)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that passed, but left a write that is not finished."""
    yield
    sandbox = getattr(item, "funcargs", {}).get(_SANDBOX)
    if sandbox is not None and item.get_closest_marker(LEAVES_PENDING) is None:
        _refuse_what_is_left(sandbox)


def _refuse_what_is_left(sandbox: Sandbox) -> None:
    left = sandbox.left()
    if not left:
        return
    writes = "\n".join(f"  {write}\n    reliable-write writes explain {write.write_id}" for write in left)
    named = ("RELIABLE_WRITE_ENDPOINT_URL", "RELIABLE_WRITE_SYSTEM_TABLE", "RELIABLE_WRITE_REGION")
    where = " ".join(f"{name}={value}" for name, value in sandbox.environment().items() if name in named)
    pytest.fail(
        f"this test left {len(left)} unfinished write{'s' * (len(left) > 1)}:\n{writes}\n"
        f"The commands tell more while the engine runs (pytest --pdb keeps it), with {where}. "
        "Let a monitor finish them (reliable_write_sandbox.recover()), or mark the test with "
        f"@pytest.mark.{LEAVES_PENDING} if it means to leave them.",
        pytrace=False,
    )
