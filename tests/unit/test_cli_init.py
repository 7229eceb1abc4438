"""`reliable-write init`: what it sets it reads back, what is missing it names, and a second run changes nothing."""

from collections.abc import Callable

import pytest

from reliable_write.cli.exits import ExitCode
from reliable_write.testing.engines import Capability, Engine
from tests.unit.cli_process import Ran, at, run_cli

OPTIONAL = {
    "point-in-time recovery": Capability.POINT_IN_TIME_RECOVERY,
    "deletion protection": Capability.DELETION_PROTECTION,
    "TTL on expires_at": Capability.TTL,
}


@pytest.fixture(params=["ministack", "dynoxide", "dynalite"])
def place(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.getfixturevalue(request.param)
    return engine


def init(engine: Engine, table: str, *arguments: str) -> Ran:
    return run_cli("init", *arguments, environment=at(engine.endpoint_url, table))


def test_it_names_exactly_what_the_engine_lacks(place: Engine, unique_name: Callable[[str], str]) -> None:
    ran = init(place, unique_name("system"), "--json")
    assert ran.code == ExitCode.DONE
    assert ran.facts["ready"]
    assert ran.facts["missing"] == [name for name, having in OPTIONAL.items() if having in place.lacks]
    assert all(row["matters"] for row in ran.facts["findings"] if not row["ok"])


def test_a_second_run_changes_nothing(place: Engine, unique_name: Callable[[str], str]) -> None:
    table = unique_name("system")
    first = init(place, table, "--json", "--order", "clock", "--shards", "8")
    before = place.client().get_item(TableName=table, Key={"pk": {"S": "CONFIG"}, "sk": {"S": "CONFIG"}})["Item"]
    second = init(place, table, "--json")
    after = place.client().get_item(TableName=table, Key={"pk": {"S": "CONFIG"}, "sk": {"S": "CONFIG"}})["Item"]
    assert (first.code, second.code) == (ExitCode.DONE, ExitCode.DONE)
    assert first.facts["findings"] == second.facts["findings"]
    assert before == after
    assert (after["order"], after["shards"]) == ({"S": "clock"}, {"N": "8"})


def test_a_person_is_told_what_is_missing_and_whether_it_matters(
    dynalite: Engine, unique_name: Callable[[str], str]
) -> None:
    ran = init(dynalite, unique_name("system"))
    words = " ".join(ran.out.split())
    assert "no deletion protection not on here" in words
    assert "no point-in-time recovery not told: UnknownOperationException" in words
    assert "No write depends on it." in words
    assert "Ready. 3 of the things that only make it safer are missing." in words
    assert not ran.err


def test_another_wish_for_an_installation_is_not_granted_and_not_hidden(
    dynoxide: Engine, unique_name: Callable[[str], str]
) -> None:
    """The table is as usable as before, so it is not a failure; but a script must notice."""
    table = unique_name("system")
    init(dynoxide, table)
    ran = init(dynoxide, table, "--shards", "128", "--order", "clock")
    words = " ".join(ran.out.split())
    assert ran.code == ExitCode.PARTLY
    assert "kept as it was: shards 64 (not 128), order strict (not clock)." in words
    assert "Ready, but not as asked" in words
    assert init(dynoxide, table, "--check", "--shards", "128").code == ExitCode.PARTLY
    assert init(dynoxide, table, "--check").code == ExitCode.DONE


def test_check_makes_nothing(dynoxide: Engine, unique_name: Callable[[str], str]) -> None:
    table = unique_name("system")
    ran = init(dynoxide, table, "--check")
    assert ran.code == ExitCode.CONFIGURATION
    assert f"reliable-write init --system-table {table}" in " ".join(ran.out.split())
    assert table not in dynoxide.client().list_tables()["TableNames"]


def make_table(engine: Engine, name: str, *keys: str, kind: str = "S") -> None:
    engine.client().create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": role} for key, role in zip(keys, ("HASH", "RANGE"), strict=False)],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key in keys],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.mark.parametrize(("keys", "kind"), [(("id",), "S"), (("pk", "sk"), "N")])
def test_a_table_of_another_shape_is_refused_and_left_alone(
    dynoxide: Engine, unique_name: Callable[[str], str], keys: tuple[str, ...], kind: str
) -> None:
    table = unique_name("other")
    make_table(dynoxide, table, *keys, kind=kind)
    ran = init(dynoxide, table, "--json")
    assert ran.code == ExitCode.CONFIGURATION
    assert ran.facts["missing"] == ["key schema"]
    assert not has_ttl(dynoxide, table)


def test_a_table_with_somebody_elses_items_is_refused_and_left_alone(
    dynoxide: Engine, unique_name: Callable[[str], str]
) -> None:
    """A single-table design has our key names, and often `expires_at`: TTL would begin to delete its items."""
    table = unique_name("single")
    make_table(dynoxide, table, "pk", "sk")
    dynoxide.client().put_item(TableName=table, Item={"pk": {"S": "user#1"}, "sk": {"S": "profile"}})
    ran = init(dynoxide, table)
    assert ran.code == ExitCode.CONFIGURATION
    assert "somebody else's" in ran.err
    assert not has_ttl(dynoxide, table)
    assert dynoxide.client().scan(TableName=table)["Count"] == 1


def has_ttl(engine: Engine, table: str) -> bool:
    answer = engine.client().describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    return "AttributeName" in answer


@pytest.mark.parametrize(
    "names", [["--stamp-attribute", ""], ["--stamp-attribute", "x", "--update-stamp-attribute", "x"]]
)
def test_stamp_attributes_that_cannot_be_are_refused(
    dynoxide: Engine, unique_name: Callable[[str], str], names: list[str]
) -> None:
    table = unique_name("system")
    assert init(dynoxide, table, *names).code == ExitCode.USAGE
    assert table not in dynoxide.client().list_tables()["TableNames"]
