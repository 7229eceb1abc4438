"""From options to a client: the environment's settings under what the command line gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reliable_write import limits
from reliable_write.clock import Deadline, SystemTime
from reliable_write.dynamodb import RoutedCalls, Schemas, Store, open_calls, open_client
from reliable_write.errors import ConfigurationError
from reliable_write.settings import Settings


@dataclass(frozen=True, slots=True)
class Connection:
    """What commands need to talk to one installation."""

    settings: Settings
    client: Any
    calls: RoutedCalls
    store: Store
    time: SystemTime

    @property
    def table(self) -> str:
        """The system table's name."""
        return self.settings.system_table

    @property
    def place(self) -> dict[str, Any]:
        """Which installation it is, for JSON and for plans."""
        meta = self.client.meta
        return {"system_table": self.table, "region": meta.region_name, "endpoint_url": meta.endpoint_url}

    def schemas(self) -> Schemas:
        """What tables look like."""
        return Schemas(self.store, self.time, limits.ATTEMPT_DEADLINE_SECONDS, system_table=self.table)

    def deadline(self) -> Deadline:
        """A deadline for one step of a command, beginning now."""
        return Deadline.after(limits.ATTEMPT_DEADLINE_SECONDS, self.time)


def connect(**given: str | None) -> Connection:
    """Open a client for these options. Sends nothing. Raises `ConfigurationError`, or botocore's own."""
    chosen: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    settings = Settings.from_environment(None, **chosen)
    try:
        client = open_client(settings)
    except ValueError as error:  # botocore's answer to an endpoint that is no URL
        raise ConfigurationError(f"{error}. An endpoint looks like http://127.0.0.1:8000.") from error
    time = SystemTime()
    calls = open_calls(settings, client, time=time)
    return Connection(settings, client, calls, Store(calls, time), time)
