"""The engines as processes: on loopback, tied to us, and honest about what they are not."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from threading import Thread

import pytest

from reliable_write.embedded import Command, EmbeddedEngine, LoopbackServer
from reliable_write.errors import ConfigurationError
from reliable_write.testing.engines import (
    DYNAMODB_LOCAL_VARIABLE,
    ENGINES,
    ENGINES_VARIABLE,
    Capability,
    Dynalite,
    DynamoDBLocal,
    Dynoxide,
    Engine,
    Moto,
    ProcessEngine,
)
from tests.conftest import require_engine

LISTENING = "0A"
LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
"""127.0.0.1, ::1 and ::ffff:127.0.0.1 as the kernel prints them."""


def listening_addresses(pid: int) -> list[str]:
    """Return the addresses on which a process listens, from Linux's own tables."""
    inodes = {str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1].split(":")[0])
    return found


def ended_within(pid: int, seconds: float) -> bool:
    """Wait for the end of a process that is not our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def test_it_listens_on_loopback_and_on_nothing_else(real_engine: Engine) -> None:
    assert isinstance(real_engine, ProcessEngine)
    addresses = listening_addresses(real_engine.pid)
    assert addresses
    assert set(addresses) <= set(LOOPBACK)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """The parent has no chance to clean up; neither the engine nor its files must stay behind."""
    require_engine("ministack")
    program = """
        import sys
        from reliable_write.embedded import EmbeddedEngine
        print(EmbeddedEngine.start().pid, flush=True)
        sys.stdin.read()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        tether = parent_of(pid)
        assert any(tmp_path.iterdir())
        parent.send_signal(signal.SIGKILL)
        assert ended_within(pid, seconds=20)
        assert ended_within(tether, seconds=20)
    assert not any(tmp_path.iterdir())


def test_it_ends_with_a_tether_that_is_killed() -> None:
    require_engine("ministack")
    with EmbeddedEngine.start() as engine:
        pid = engine.pid
        os.kill(parent_of(pid), signal.SIGKILL)
        assert ended_within(pid, seconds=20)


def test_the_embedded_engine_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'reliable-write\[local\]'"):
        EmbeddedEngine.start()


def test_it_outlives_the_thread_that_started_it() -> None:
    """Linux's death signal alone would end it with the thread."""
    require_engine("ministack")
    engines: list[EmbeddedEngine] = []
    thread = Thread(target=lambda: engines.append(EmbeddedEngine.start()))
    thread.start()
    thread.join()
    with engines[0] as engine:
        client = engine.client()
        assert client.list_tables()["TableNames"] == []
        client.close()


def test_a_server_that_does_not_come_up_is_quoted() -> None:
    def command(_port: int, _directory: Path) -> Command:
        return Command((sys.executable, "-c", "raise SystemExit('no space left on device')"))

    server = LoopbackServer("the engine of this test", command)
    with pytest.raises(ConfigurationError, match=r"(?s)the engine of this test ended.*no space left on device"):
        server.start()
    server.stop()


def test_a_server_that_cannot_be_executed_is_named() -> None:
    server = LoopbackServer("the engine of this test", lambda _port, directory: Command((f"{directory}/none",)))
    with pytest.raises(ConfigurationError, match=r"(?s)could not be executed.*No such file"):
        server.start()
    server.stop()


def test_a_stopped_engine_says_so(ministack: Engine) -> None:
    stopped = type(ministack)()
    with pytest.raises(ConfigurationError, match=r"call start\(\) first"):
        _ = stopped.endpoint_url


@pytest.mark.parametrize("engine_class", [Dynoxide, Dynalite, DynamoDBLocal])
def test_an_absent_engine_names_the_command_that_fetches_it(
    engine_class: type[Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENGINES_VARIABLE, str(tmp_path))
    monkeypatch.delenv(DYNAMODB_LOCAL_VARIABLE, raising=False)
    reason = engine_class.absent()
    assert reason is not None
    assert "make engines" in reason or "JDK" in reason
    with pytest.raises(ConfigurationError, match="cannot be started here"):
        engine_class().start()


def test_every_engine_says_in_words_what_it_lacks() -> None:
    for engine_class in ENGINES.values():
        engine = engine_class()
        assert all(len(reason) > 20 for reason in engine.lacks.values())
        assert engine.capabilities == set(Capability) - set(engine.lacks)


def test_some_engine_has_each_capability() -> None:
    """Otherwise the protocol would lean on something no test has ever seen."""
    everywhere_lacking = set(Capability)
    for engine_class in ENGINES.values():
        everywhere_lacking &= engine_class.lacks.keys()
    assert everywhere_lacking == set()


def test_moto_never_goes_to_aws() -> None:
    require_engine("moto")
    engine = Moto()
    client = engine.client()
    with pytest.raises(ConfigurationError, match="would go to AWS"):
        client.list_tables()
    engine.stop()


def test_importing_the_engines_loads_none_of_them() -> None:
    program = "import sys, reliable_write.testing.engines; print({'moto', 'ministack', 'pytest'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "set()"
