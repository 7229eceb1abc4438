"""`reliable-write upload`: what it does, says and answers, without a terminal."""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reliable_write.cli.exits import ExitCode
from reliable_write.cli.render_upload import printable
from tests.buckets import Depot, digests_of, fill
from tests.integration.depot import depot
from tests.integration.stuck_writes import Ran, cli

__all__ = ["depot"]

ROOT = Path(__file__).parents[2]


def upload(depot: Depot, folder: Path, *more: str) -> Ran:
    return cli(depot.world, "upload", str(folder), depot.bucket.url, "--table", depot.table, *more)


def test_it_uploads_and_a_second_time_it_says_that_all_is_there(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a.log": b"1", "sub/b.log": b"22"})
    first = upload(depot, folder)
    assert first.code == ExitCode.DONE, first.err
    assert f"2 files uploaded to {depot.bucket.url}/: 3 bytes in" in first.out
    wanted = digests_of(folder)
    assert depot.bucket.digests(wanted) == wanted
    second = upload(depot, folder)
    assert second.code == ExitCode.DONE
    assert "0 files uploaded" in second.out
    assert "2 files were there already." in second.out
    assert not second.err


def test_files_by_name_and_patterns(depot: Depot, tmp_path: Path) -> None:
    fill(tmp_path, {"a.log": b"1", "b.log": b"2", "c.tmp": b"3"})
    files = [str(tmp_path / name) for name in ("a.log", "b.log", "c.tmp")]
    ran = cli(depot.world, "upload", *files, depot.bucket.url, "--table", depot.table, "--exclude", "*.tmp")
    assert ran.code == ExitCode.DONE, ran.err
    assert set(depot.bucket.versions()) == {"p/a.log", "p/b.log"}


def test_different_content_has_an_exit_code_of_its_own(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a": b"1"})
    upload(depot, folder)
    fill(folder, {"a": b"other", "b": b"new"})
    ran = upload(depot, folder)
    assert ran.code == ExitCode.DIFFERENT
    assert "Different content, left as it is: 1" in ran.out
    assert "1 file uploaded" in ran.out
    assert depot.bucket.content("p/a") == b"1"


def test_failures_come_before_different_content_and_the_command_that_goes_on_is_named(
    depot: Depot, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "my logs", {"a": b"1"})
    upload(depot, folder)
    fill(folder, {"a": b"other", "bad\x01": b"x"})
    ran = upload(depot, folder, "--parallel", "2", "--exclude", "*.tmp")
    assert ran.code == ExitCode.PARTLY
    assert "bad\\x01" in ran.out
    command = shlex.split(ran.err.splitlines()[-1])
    assert command[:4] == ["reliable-write", "upload", str(folder), depot.bucket.url]
    assert command[4:] == ["--table", depot.table, "--parallel", "2", "--exclude", "*.tmp"]
    assert cli(depot.world, *command[1:]).code == ExitCode.PARTLY, "and it runs"


def test_a_dry_run_tells_and_does_nothing(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a": b"12345"})
    ran = upload(depot, folder, "--dry-run")
    assert ran.code == ExitCode.DONE
    assert f"1 file to upload to {depot.bucket.url}/, 5 bytes." in ran.out
    assert "Nothing was changed. To do it:" in ran.err
    assert not depot.bucket.versions()
    assert not depot.states()


def test_without_a_ledger_the_option_that_makes_it_is_named_and_does(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a": b"1"})
    arguments = ["upload", str(folder), depot.bucket.url, "--table", f"{depot.table}-new"]
    ran = cli(depot.world, *arguments)
    assert ran.code == ExitCode.CONFIGURATION
    assert "--init" in ran.err
    assert cli(depot.world, *arguments, "--init").code == ExitCode.DONE
    assert cli(depot.world, *arguments, "--init").code == ExitCode.DONE


def test_a_service_that_refuses_ends_it_with_its_own_code(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {f"{number:02d}": b"x" for number in range(20)})
    ran = cli(depot.world, "upload", str(folder), "s3://no-such-bucket", "--table", depot.table, "--parallel", "1")
    assert ran.code == ExitCode.SERVICE
    assert "NoSuchBucket" in ran.err
    assert "19 files are not tried" in ran.err


@pytest.mark.parametrize(
    "arguments", [["absent", "s3://bucket"], [".", "bucket"], [".", "s3://bucket", "--clean", "soon"]]
)
def test_what_cannot_be_meant_is_a_wrong_command_line(depot: Depot, arguments: list[str]) -> None:
    ran = cli(depot.world, "upload", *arguments, "--table", depot.table)
    assert ran.code == ExitCode.USAGE, ran.err
    assert ran.err.strip()


def test_killed_runs_are_cleaned_up_after_where_it_is_asked_for(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {"a": b"1"})
    upload(depot, folder)
    depot.bucket.s3.create_multipart_upload(Bucket=depot.bucket.name, Key="p/a")
    depot.bucket.s3.create_multipart_upload(Bucket=depot.bucket.name, Key="p/theirs")
    ran = upload(depot, folder, "--clean", "0s")
    assert ran.code == ExitCode.DONE, ran.err
    assert "1 multipart upload of killed runs aborted." in ran.out
    assert "Multipart uploads left alone: 1" in ran.out
    assert [key for key, _ in depot.bucket.pending()] == ["p/theirs"]


def test_ctrl_c_ends_it_cleanly_and_names_the_command_that_goes_on(depot: Depot, tmp_path: Path) -> None:
    folder = fill(tmp_path, {f"{number:05d}": random.randbytes(10) for number in range(3000)})
    command = [sys.executable, "-m", "reliable_write.cli", "upload", str(folder), depot.bucket.url]
    environment = {**os.environ, **depot.world.environment(), "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    running = subprocess.Popen(
        [*command, "--table", depot.table, "--parallel", "2"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not depot.bucket.s3.list_objects_v2(Bucket=depot.bucket.name, MaxKeys=1).get("Contents"):
        assert running.poll() is None, running.communicate()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == ExitCode.PARTLY, err
    assert "Stopping: what is under way ends." in err
    assert "Interrupted." in err
    assert "What is there is not sent again. To go on:" in err
    assert f"reliable-write upload {folder} {depot.bucket.url} --table {depot.table} --parallel 2" in err
    assert "Traceback" not in err
    assert "uploaded to" in out
    assert not [item for item in depot.world.items(depot.table) if "owner" in item], "no claim is left"
    assert set(depot.bucket.versions().values()) == {1}


def test_names_are_printed_on_one_line() -> None:
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert printable("ü \udce4") == "ü \\xe4"
