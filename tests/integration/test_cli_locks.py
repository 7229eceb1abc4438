"""`reliable-write locks`: what can be known of a holder is told, and no more; a release is of what was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reliable_write import Lease, LockLostError, Settings
from reliable_write.cli.exits import ExitCode
from reliable_write.dynamodb import open_client
from reliable_write.testing.faults import Fault, FaultPlan, When, deny, lose_answer
from tests.clocks import HastyTime
from tests.integration.locking import LEASE, Room, room
from tests.integration.stuck_writes import Ran, cli
from tests.unit.fakes import NOON

__all__ = ["room"]
WHY = ("--reason", "host is gone", "--yes")


class Meanwhile(HastyTime):
    """Nobody waits, and something happens while the command believes to."""

    happens: Callable[[], object] = staticmethod(lambda: None)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        type(self).happens()


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> type[Meanwhile]:
    kind = type("Meanwhile", (Meanwhile,), {})
    monkeypatch.setattr("reliable_write.cli.connect.SystemTime", kind)
    return kind


def held(room: Room, key: str = "x", owner: str = "host-1", **more: Any) -> Lease:
    return room.machine().lock(key, owner=owner).acquire(**more)


def locks(room: Room, *arguments: str) -> Ran:
    command, *rest = arguments
    return cli(room.world, "locks", command, room.table, *rest)


# --- list ---------------------------------------------------------------------------------------------------------


def test_one_look_says_who_holds_what_and_that_it_cannot_say_who_lives(room: Room) -> None:
    held(room, "b", "host-2")
    held(room, "a")
    held(room, "c").release()
    room.world.client.put_item(TableName=room.table, Item={"name": {"S": "no lock"}})
    ran = locks(room, "list")
    assert ran.code == ExitCode.DONE
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == ["a", "b"]
    assert "host-1" in ran.out
    assert "4 items read" in ran.err
    assert "One look cannot tell who of them lives" in ran.err
    assert "--watch-seconds 20" in ran.err
    facts = locks(room, "list", "--all", "--json").facts
    assert facts["counts"] == {"free": 1, "held": 2, "renewed": 0, "unchanged": 0, "lapsed": 0}
    assert facts["items_read"] == 4


def test_a_second_look_tells_them_apart(room: Room, meanwhile: type[Meanwhile]) -> None:
    alive, gone = held(room, "alive"), held(room, "gone")
    held(room, "dead")

    def happens() -> None:
        alive.renew()
        gone.release()

    meanwhile.happens = staticmethod(happens)
    facts = locks(room, "list", "--watch-seconds", str(LEASE), "--json").facts
    assert {lock["key"]["name"]["S"]: lock["life"] for lock in facts["locks"]} == {
        "alive": "renewed",
        "dead": "lapsed",
        "gone": "free",
    }


def test_less_than_a_lease_proves_nothing(room: Room, meanwhile: type[Meanwhile]) -> None:
    assert meanwhile.happens() is None
    held(room)
    ran = locks(room, "show", "x", "--watch-seconds", "5")
    assert "host-1 gave no sign of life for 5.0 s of a lease of 20 s. That is no proof" in " ".join(ran.out.split())
    (line,) = locks(room, "list", "--watch-seconds", "5", "--jsonl").lines
    assert line["life"] == "unchanged"
    assert line["unchanged_seconds"] == pytest.approx(5.0, abs=1.0)


def test_a_limit_says_what_it_left_out(room: Room) -> None:
    for number in range(3):
        held(room, f"k{number}")
    ran = locks(room, "list", "--limit", "2")
    assert "The first 2 of 3" in ran.err
    assert len(locks(room, "list", "--limit", "2", "--jsonl").lines) == 2


def test_an_empty_table_holds_no_locks(room: Room) -> None:
    ran = locks(room, "list")
    assert ran.code == ExitCode.DONE
    assert "No locks are held." in ran.out


def test_what_no_lock_wrote_is_counted_and_left_out(room: Room) -> None:
    item = {"name": {"S": "x"}, "lock_token": {"S": "seven"}}
    room.world.client.put_item(TableName=room.table, Item=item)
    ran = locks(room, "list")
    assert ran.code == ExitCode.PARTLY
    assert "that no lock wrote: left out" in ran.err


# --- show ---------------------------------------------------------------------------------------------------------


def test_one_lock_is_shown_with_its_data_only_on_demand(room: Room) -> None:
    lease = held(room, data="only-the-owner-may-see-this")
    ran = locks(room, "show", "x")
    assert str(lease.token) in ran.out
    assert "host-1 holds it, or did when he died: one look cannot tell" in " ".join(ran.out.split())
    assert "2023-11-14 22:13:20 UTC, by the holder's own clock" in ran.out
    assert NOON == 1_700_000_000
    assert "only-the-owner" not in ran.out + ran.err
    assert "only-the-owner" in locks(room, "show", "x", "--reveal").out
    assert locks(room, "show", "x", "--json").facts["data"] is None
    assert locks(room, "show", "x", "--json", "--reveal").facts["data"] == {"S": "only-the-owner-may-see-this"}


def test_a_lock_that_never_was_is_not_found(room: Room) -> None:
    assert locks(room, "show", "x").code == ExitCode.NOT_FOUND
    assert cli(room.world, "locks", "show", "no-such-table", "x").code == ExitCode.NOT_FOUND


def test_keys_are_read_as_the_table_has_them(room: Room) -> None:
    table = room.world.table("typed", hash_key="n:N", range_key="b:B")
    room.machine().lock(7, table=table, sort_key=b"\x00").acquire()
    assert cli(room.world, "locks", "show", table, "7", "--sort-key", "AA==").code == ExitCode.DONE
    for key in (["7"], ["seven", "--sort-key", "AA=="], ["7", "--sort-key", "?"]):
        assert cli(room.world, "locks", "show", table, *key).code == ExitCode.USAGE
    assert locks(room, "show", "x", "--sort-key", "y").code == ExitCode.USAGE


# --- release ------------------------------------------------------------------------------------------------------


def test_a_dead_holder_s_lock_is_released_with_a_record_and_its_zombie_is_refused(room: Room) -> None:
    lease = held(room, data="kept")
    ran = locks(room, "release", "x", *WHY, "--json")
    assert ran.code == ExitCode.DONE, ran.err
    assert ran.facts["released"]
    assert room.item() == {
        "name": {"S": "x"},
        "lock_token": {"N": str(lease.token)},
        "lock_data": {"S": "kept"},
    }
    with pytest.raises(LockLostError):
        lease.renew()
    (record,) = room.world.records("A")
    assert (record["action"], record["reason"]) == ({"S": "release-lock"}, {"S": "host is gone"})
    assert (record["owner"], record["key"]) == ({"S": "host-1"}, {"M": {"name": {"S": "x"}}})
    listed = cli(room.world, "audit", "list", "--action", "release-lock").out
    assert room.table in listed
    assert "host is gone" in listed


def test_a_holder_who_gives_a_sign_of_life_keeps_it(room: Room, meanwhile: type[Meanwhile]) -> None:
    lease = held(room)
    meanwhile.happens = staticmethod(lease.renew)
    ran = locks(room, "release", "x", "--watch-seconds", "20", *WHY)
    assert ran.code == ExitCode.TOO_LATE
    assert "while it was watched. Nothing was changed" in ran.err
    lease.renew()
    assert room.world.records("A") == []


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Faults on the command's own client."""
    rules: list[tuple[str, Fault, When, int | None]] = []

    def opened(settings: Settings) -> Any:
        client = open_client(settings)
        plan = FaultPlan(client)
        for call, fault, when, times in rules:
            plan.on(call, fault, when, times=times)
        return client

    def breaks(fault: Fault, *, times: int | None = None, after: bool = False, call: str = "UpdateItem") -> None:
        rules.append((call, fault, "after" if after else "before", times))

    monkeypatch.setattr("reliable_write.cli.connect.open_client", opened)
    return breaks


def test_a_sign_of_life_in_the_last_moment_is_too_late_and_leaves_no_record(
    room: Room, broken: Callable[..., None]
) -> None:
    lease = held(room)
    broken(lambda _call: lease.renew())
    ran = locks(room, "release", "x", *WHY)
    assert ran.code == ExitCode.TOO_LATE
    assert "It was left alone" in ran.err
    assert lease.is_held()
    assert room.world.records("A") == []


def test_a_record_that_cannot_be_withdrawn_does_not_hide_that_it_was_too_late(
    room: Room, broken: Callable[..., None]
) -> None:
    lease = held(room)
    broken(lambda _call: lease.renew())
    broken(deny, call="BatchWriteItem")
    ran = locks(room, "release", "x", *WHY)
    assert ran.code == ExitCode.TOO_LATE
    assert "It was left alone" in ran.err
    assert len(room.world.records("A")) == 1, "one too many"


def test_a_release_whose_answer_was_lost_is_recognised(room: Room, broken: Callable[..., None]) -> None:
    held(room)
    broken(lose_answer, times=1, after=True)
    assert locks(room, "release", "x", *WHY).code == ExitCode.DONE
    assert len(room.world.records("A")) == 1


def test_a_release_that_was_refused_leaves_no_record(room: Room, broken: Callable[..., None]) -> None:
    lease = held(room)
    broken(deny)
    assert locks(room, "release", "x", *WHY).code == ExitCode.SERVICE
    assert room.world.records("A") == []
    lease.renew()


def test_a_free_lock_is_nothing_to_release(room: Room) -> None:
    held(room).release()
    ran = locks(room, "release", "x", *WHY)
    assert ran.code == ExitCode.TOO_LATE
    assert "Nobody holds this lock" in ran.err


def test_without_a_reason_or_a_yes_nothing_is_released(room: Room) -> None:
    lease = held(room)
    assert locks(room, "release", "x", "--yes").code == ExitCode.USAGE
    assert locks(room, "release", "x", "--reason", "why").code == ExitCode.USAGE
    assert locks(room, "release", "x", "--dry-run").code == ExitCode.DONE
    lease.renew()
