import pytest

from reliable_write import ReliableWriteScope
from reliable_write.clock import SystemTime
from reliable_write.recovery import Resumed
from reliable_write.testing.faults import FaultPlan, SimulatedCrash, crash
from tests.world import World, plain_world

world = plain_world


def test_a_scope_writes_all_its_items_and_leaves_no_entry(every_world: World) -> None:
    world = every_world
    people, places = world.table("people"), world.table("places", "id:S", "at:N")
    writer = world.writer()
    with ReliableWriteScope(writer) as scope:
        scope.put_item(people, Item={"id": "ada", "age": 36})
        scope.put_items(places, [{"id": "london", "at": 1}, {"id": "london", "at": 2}])
        receipt = scope.commit()
    writer.close()
    assert receipt.operations == 2
    assert world.item(people, id={"S": "ada"}) == {"id": {"S": "ada"}, "age": {"N": "36"}, "_rw": {"S": receipt.stamp}}
    assert len(world.items(places)) == 2
    assert world.records("J#") == []


class AheadTime(SystemTime):
    """A machine whose wall clock is five seconds ahead."""

    def wall_seconds(self) -> float:
        return super().wall_seconds() + 5


@pytest.mark.parametrize("older_than_seconds", [0.0, 40.0])
def test_an_entry_from_a_clock_that_is_ahead_is_not_passed_over(world: World, older_than_seconds: float) -> None:
    table = world.table("people")
    writer = world.writer(time=AheadTime())
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "ada"})
    with FaultPlan(writer.client) as plan:
        plan.on("PutItem", crash, "after", having=world.system_table.encode())
        with pytest.raises(SimulatedCrash):
            scope.commit()
    assert plan.injected == 1
    reports = world.writer().recovery.resume_all(older_than_seconds=older_than_seconds)
    assert [report.resumed for report in reports] == [Resumed.FINISHED]
    assert world.item(table, id={"S": "ada"}) is not None
