"""Destinations in other accounts: roles, and credentials that are renewed."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reliable_write import CommitFailedError, Receipt, ReliableWriter, ReliableWriteScope
from reliable_write.embedded.server import local_session
from reliable_write.recovery import Resumed
from reliable_write.settings import Destination
from reliable_write.testing.engines import Engine, MiniStack
from reliable_write.testing.faults import FaultPlan, SimulatedCrash, crash
from tests.clocks import SkippingTime
from tests.integration.regions import TABLE, Far, Two, at, make_table, shown
from tests.world import World

ROLE = "arn:aws:iam::222222222222:role/writer"


@pytest.fixture
def accounts(ministack: Engine, unique_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world in one account of an engine that has several, and STS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", ministack.endpoint_url)
    home = World(ministack, unique_name)
    yield home
    home.close()


def writer_with_role(home: World, **more: Any) -> ReliableWriter:
    time = more.pop("time", None)
    place = Destination(role_arn=ROLE, endpoint_url=home.engine.endpoint_url)
    settings = home.settings(delete_finished_inline=True, **more)
    return ReliableWriter(settings, session=local_session(), destinations={"their": place}, time=time)


def table_of_theirs(home: World, account: str = "222222222222") -> tuple[Any, str]:
    client = home.engine.client(access_key_id=account)
    name = home._unique_name("theirs")
    make_table(client, name)
    return client, name


def test_a_role_leads_to_another_account(accounts: World) -> None:
    theirs, name = table_of_theirs(accounts)
    ours = accounts.table("orders")
    with writer_with_role(accounts) as writer, ReliableWriteScope(writer) as scope:
        for table in (ours, f"their:{name}"):
            scope.put_item(table, Item={"id": "o-1", "v": "a"})
        scope.commit()
    assert shown(accounts.client, ours) == shown(theirs, name) == {"o-1": "a"}
    assert name not in accounts.client.list_tables()["TableNames"]


class Sts:
    """STS for one role: denies, or gives credentials for an account that last so long."""

    def __init__(self) -> None:
        self.denies = False
        self.lasts = timedelta(hours=1)
        self.asked = 0
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                owner.asked += 1
                status, body = owner.answer()
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self) -> tuple[int, str]:
        if self.denies:
            return 403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        until = (datetime.now(UTC) + self.lasts).isoformat()
        return 200, (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            "<AccessKeyId>222222222222</AccessKeyId><SecretAccessKey>local</SecretAccessKey>"
            f"<SessionToken>token</SessionToken><Expiration>{until}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sts]:
    """Asked for after `accounts`, in whose place it comes."""
    found = Sts()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", found.endpoint_url)
    yield found
    found.close()


def put_theirs(writer: ReliableWriter, name: str, key: str = "o-1") -> Receipt:
    with ReliableWriteScope(writer) as scope:
        scope.put_item(f"their:{name}", Item={"id": key, "v": "a"})
        return scope.commit()


def test_credentials_of_a_role_are_asked_for_once_and_renewed_before_they_expire(accounts: World, sts: Sts) -> None:
    """Botocore renews in the last ten minutes, with the request that needs it."""
    theirs, name = table_of_theirs(accounts)
    with writer_with_role(accounts) as writer:
        sts.lasts = timedelta(minutes=5)
        put_theirs(writer, name, "o-1")
        short = sts.asked
        assert short > 1
        sts.lasts = timedelta(hours=1)
        put_theirs(writer, name, "o-2")
        renewed = sts.asked
        put_theirs(writer, name, "o-3")
        assert sts.asked == renewed == short + 1
    assert set(shown(theirs, name)) == {"o-1", "o-2", "o-3"}


def test_a_role_that_cannot_be_assumed_is_waited_for_and_never_quarantined(accounts: World, sts: Sts) -> None:
    theirs, name = table_of_theirs(accounts)
    with writer_with_role(accounts) as dead:
        scope = ReliableWriteScope(dead)
        scope.put_item(f"their:{name}", Item={"id": "o-1", "v": "a"})
        FaultPlan(at(dead, f"their:{name}")).on("PutItem", crash)
        with pytest.raises(SimulatedCrash):
            scope.commit()
    sts.denies = True
    time = SkippingTime()
    with writer_with_role(accounts, time=time) as writer:
        (report,) = writer.recovery.resume_all()
        assert report.resumed is Resumed.STILL_PENDING
        assert report.reason == f"credentials (RoleNotAssumed) on table their:{name}"
        sts.denies = False
        time.skip(60.0)
        (report,) = writer.recovery.resume_all()
        assert report.resumed is Resumed.FINISHED
    assert shown(theirs, name) == {"o-1": "a"}


def test_a_role_that_cannot_be_assumed_is_told_when_recorded_and_asked_for_once(accounts: World, sts: Sts) -> None:
    """However many threads wait for it: in turn they would take a timeout each."""
    _, name = table_of_theirs(accounts)
    sts.denies = True
    with writer_with_role(accounts) as writer:

        def record(_number: int) -> str:
            with ReliableWriteScope(writer) as scope, pytest.raises(CommitFailedError) as caught:
                scope.put_item(f"their:{name}", Item={"id": "o-1"})
            return caught.value.message

        with ThreadPoolExecutor(8) as pool:
            told = set(pool.map(record, range(8)))
        assert sts.asked == 1
    (message,) = told
    assert "credentials (RoleNotAssumed)" in message
    assert "Check the role and credentials of destination their (RELIABLE_WRITE_DESTINATIONS)" in message


def test_two_ministacks_are_two_regions(ministack: Engine, unique_name: Callable[[str], str]) -> None:
    home = World(ministack, unique_name)
    with MiniStack() as engine:
        two = Two(home, Far(engine, region_name="eu-west-1"))
        two.put(two.writer())
        assert two.items() == two.far.items() == {"o-1": "a"}
        assert shown(engine.client(region_name="eu-west-1"), TABLE) == {"o-1": "a"}
        assert engine.client(region_name="us-east-1").list_tables()["TableNames"] == []
        two.close()
    home.close()
