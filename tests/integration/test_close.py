"""`close()` ends what runs in the background, and nothing after it."""

import threading

import pytest

from reliable_write import ReliableWriter, ReliableWriteScope
from reliable_write.testing.faults import Call, FaultPlan
from tests.world import World

STALL_SECONDS = 0.3


@pytest.mark.usefixtures("finished_entries_go")
def test_close_waits_for_the_deletion_that_is_under_way(world: World) -> None:
    """Its thread keeps no process alive, so at exit the batch in its hands would be left to a recovery."""
    table, client = world.table("one"), world.engine.client()
    stalling, go_on = threading.Event(), threading.Event()

    def stall(_call: Call) -> None:
        stalling.set()
        go_on.wait(10)

    writer = ReliableWriter(world.settings(), client=client)
    with FaultPlan(client) as faults:
        faults.on("BatchWriteItem", stall, times=1)
        with ReliableWriteScope(writer) as scope:
            scope.put_item(table, Item={"id": "thing"})
            scope.commit()
        assert stalling.wait(10)
        threading.Timer(STALL_SECONDS, go_on.set).start()
        writer.close()
    assert go_on.is_set()
    assert world.records("J#") == []
