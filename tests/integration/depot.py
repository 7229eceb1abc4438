"""The fixture of what uploads are tested on: MiniStack has DynamoDB and S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from reliable_write.testing.engines import Engine
from tests.buckets import Depot
from tests.world import World


@pytest.fixture
def depot(ministack: Engine, unique_name: Callable[[str], str]) -> Iterator[Depot]:
    made = Depot(World(ministack, unique_name), unique_name)
    yield made
    made.close()
