"""Tables with copies of the same things, and processes that write to them."""

from __future__ import annotations

from contextlib import ExitStack

from tests.chaos.contenders import contend
from tests.chaos.processes import Child, start
from tests.chaos.victims import Home
from tests.world import World


class Arena:
    """Tables with copies of the same things, and processes that write to them."""

    def __init__(self, world: World, cleanup: ExitStack) -> None:
        self.world = world
        self.home = Home(world.engine.endpoint_url, world.system_table)
        self.tables = [world.table("one"), world.table("two"), world.table("three")]
        self._cleanup = cleanup

    def contender(self, clock_shift_seconds: float = 0.0) -> Child:
        child = start(contend, self.home, clock_shift_seconds)
        self._cleanup.callback(child.close)
        assert child.receive() == "ready"
        return child

    def copies(self, key: str) -> list[dict[str, str]]:
        """The copies of one thing, one per table; empty where it is absent."""
        found = [self.world.item(table, id={"S": key}) or {} for table in self.tables]
        return [{name: value["S"] for name, value in item.items()} for item in found]

    def rows(self, key: str) -> list[tuple[str, str]]:
        return [(table, key) for table in self.tables]
