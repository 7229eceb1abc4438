"""A proxy between clients and an engine, a process of its own, that breaks what goes over the wire.

What it does to a request is drawn by chance, from rates that may be changed while it runs:

| fault | the engine | the client |
| --- | --- | --- |
| dropped request | never sees it | finds the connection closed |
| dropped answer | applies it | finds the connection reset |
| silence | applies it | hears nothing until it gives up |
| half an answer | applies it | gets half of the body, then a reset |
| server error | applies it | is answered 500 |
| duplicate | gets it twice | gets the first answer |
| delay | gets it some moments later | waits |
| late | gets it seconds later, when its sender has given up | finds the connection closed |

Only writes come late: nobody notices a late read. It ends with the pipe that it is told things by, so with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final, Literal
from urllib.parse import urlsplit

import h11

HOST: Final = "127.0.0.1"
READ_BYTES: Final = 65_536
PATIENCE_SECONDS: Final = 30.0
"""For an engine's answer: longer than any client waits."""
WRITES: Final = frozenset({"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"})

Fault = Literal[
    "dropped request", "dropped answer", "silence", "half an answer", "server error", "duplicate", "delay", "late"
]
FAULTS: Final[tuple[Fault, ...]] = (
    *("dropped request", "dropped answer", "silence", "half an answer", "server error", "duplicate", "delay", "late"),
)


@dataclass(frozen=True, slots=True)
class Gusts:
    """Now and then no write to one table is answered for a while, so that its callers' patience ends."""

    tables: tuple[str, ...]
    every_calls: int
    seconds: tuple[float, float]
    faults: tuple[Fault, ...] = ("dropped request", "dropped answer", "half an answer", "late")


@dataclass(frozen=True, slots=True)
class Weather:
    """How often what goes wrong."""

    rates: Mapping[Fault, float] = field(default_factory=dict)
    delay_seconds: tuple[float, float] = (0.05, 0.4)
    late_seconds: tuple[tuple[float, float], ...] = ((0.2, 2.0), (6.0, 8.0))
    """Ranges, each as likely as the others."""
    gusts: Gusts | None = None

    def draw(self, chance: random.Random, operation: str) -> Fault | None:
        drawn = chance.random()
        for fault, rate in self.rates.items():
            if drawn < rate:
                return None if fault == "late" and operation not in WRITES else fault
            drawn -= rate
        return None


@dataclass(slots=True)
class Log:
    """What it did."""

    calls: Counter[str] = field(default_factory=Counter)
    """By operation, as they came in."""
    faults: Counter[tuple[Fault, str]] = field(default_factory=Counter)
    """By kind and operation."""
    landed: int = 0
    """Late ones that the engine has answered by now."""
    pending: int = 0
    """Late ones that are still under way."""
    lost: int = 0
    """Late ones that met no engine."""

    gusts: int = 0

    def of(self, fault: Fault) -> int:
        return sum(count for (kind, _), count in self.faults.items() if kind == fault)


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer, read to its end."""

    head: h11.Request | h11.Response
    body: bytes

    @property
    def operation(self) -> str:
        """`PutItem` of `X-Amz-Target: DynamoDB_20120810.PutItem`."""
        return dict(self.head.headers).get(b"x-amz-target", b"?").decode().rpartition(".")[2]

    def names(self, table: str) -> bool:
        return f'"{table}"'.encode() in self.body


class Side:
    """One connection, with h11 to read and write what goes over it."""

    def __init__(
        self, role: type[h11.CLIENT | h11.SERVER], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._protocol = h11.Connection(role)
        self._reader = reader
        self._writer = writer

    async def receive(self) -> Message | None:
        """The next message; None where the other side is gone."""
        head: h11.Request | h11.Response | None = None
        body = bytearray()
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                if self._protocol.they_are_waiting_for_100_continue:
                    await self._write(h11.InformationalResponse(status_code=100, headers=[]))
                self._protocol.receive_data(await self._reader.read(READ_BYTES))
            elif isinstance(event, (h11.Request, h11.Response)):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                return Message(head, bytes(body))
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return None

    async def send(self, message: Message, *, half: bool = False) -> None:
        await self._write(message.head, h11.Data(data=message.body[: len(message.body) // 2] if half else message.body))
        if not half:
            await self._write(h11.EndOfMessage())

    def reusable(self) -> bool:
        """Make it ready for the next message, if that is possible."""
        if self._protocol.our_state is not h11.DONE or self._protocol.their_state is not h11.DONE:
            return False
        self._protocol.start_next_cycle()
        return True

    async def gone(self) -> None:
        """Wait until the other side hangs up."""
        while await self._reader.read(READ_BYTES):
            pass

    def reset(self) -> None:
        self._writer.transport.abort()

    async def _write(self, *events: h11.Event) -> None:
        for event in events:
            self._writer.write(self._protocol.send(event) or b"")
        await self._writer.drain()


class Upstream:
    """Connections to the engine, kept for the next request."""

    def __init__(self, endpoint_url: str) -> None:
        place = urlsplit(endpoint_url)
        self._host, self._port = place.hostname or HOST, place.port
        self._idle: list[Side] = []

    async def ask(self, request: Message) -> Message | None:
        """The engine's answer; None where it is not there, or was gone in the middle."""
        side = self._idle.pop() if self._idle else None
        try:
            side = side or await self._connect()
            await side.send(request)
            answer = await asyncio.wait_for(side.receive(), PATIENCE_SECONDS)
        except (OSError, TimeoutError, h11.ProtocolError):
            answer = None
        if side is not None:
            if answer is not None and side.reusable():
                self._idle.append(side)
            else:
                side.reset()
        return answer

    async def _connect(self) -> Side:
        return Side(h11.CLIENT, *await asyncio.open_connection(self._host, self._port))


class Wire:
    """The proxy."""

    def __init__(self, endpoint_url: str, seed: int) -> None:
        self.weather = Weather()
        self.log = Log()
        self._chance = random.Random(seed)
        self._upstream = Upstream(endpoint_url)
        self._under_way: set[asyncio.Task[None]] = set()
        self._gust_table = ""
        self._gust_ends = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it hangs up or a fault ends the connection."""
        side = Side(h11.SERVER, reader, writer)
        with contextlib.suppress(OSError, h11.ProtocolError):
            async for request in _requests(side):
                self.log.calls[request.operation] += 1
                if not await self._handle(side, request):
                    break
        side.reset()

    async def _handle(self, side: Side, request: Message) -> bool:
        """Whether the connection may go on."""
        fault = self._gust(request) or self.weather.draw(self._chance, request.operation)
        if fault is not None:
            self.log.faults[fault, request.operation] += 1
        if fault == "dropped request":
            return False
        if fault == "late":
            self._keep(self._land(request, self._chance.uniform(*self._chance.choice(self.weather.late_seconds))))
            return False
        if fault == "delay":
            await asyncio.sleep(self._chance.uniform(*self.weather.delay_seconds))
        answer = await self._upstream.ask(request)
        if fault == "duplicate":
            await self._upstream.ask(request)
        return answer is not None and await self._answer(side, answer, fault)

    def _gust(self, request: Message) -> Fault | None:
        gusts = self.weather.gusts
        if gusts is None:
            return None
        if self.log.calls.total() % gusts.every_calls == 0:
            self.log.gusts += 1
            self._gust_table = self._chance.choice(gusts.tables)
            self._gust_ends = asyncio.get_running_loop().time() + self._chance.uniform(*gusts.seconds)
        hit = request.operation in WRITES and request.names(self._gust_table)
        return (
            self._chance.choice(gusts.faults) if hit and asyncio.get_running_loop().time() < self._gust_ends else None
        )

    async def _answer(self, side: Side, answer: Message, fault: Fault | None) -> bool:
        if fault == "dropped answer":
            return False
        if fault == "silence":
            await side.gone()
            return False
        if fault == "half an answer":
            await side.send(answer, half=True)
            return False
        await side.send(_server_error() if fault == "server error" else answer)
        return True

    async def _land(self, request: Message, seconds: float) -> None:
        self.log.pending += 1
        await asyncio.sleep(seconds)
        answer = await self._upstream.ask(request)
        self.log.pending -= 1
        self.log.landed += answer is not None
        self.log.lost += answer is None

    def _keep(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


async def _requests(side: Side) -> AsyncIterator[Message]:
    while (message := await side.receive()) is not None:
        yield message
        if not side.reusable():
            return


def _server_error() -> Message:
    body = json.dumps({"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError", "message": "on the wire"})
    headers = [("content-type", "application/x-amz-json-1.0"), ("content-length", str(len(body)))]
    return Message(h11.Response(status_code=500, headers=headers), body.encode())


# --- the process --------------------------------------------------------------------------------------------------


def run(endpoint_url: str, seed: int, pipe: Connection) -> None:
    """The proxy's process: says its address; every `Weather` it is sent holds from then on; each word is answered by
    its `Log`.
    """
    asyncio.run(_run(endpoint_url, seed, pipe))


async def _run(endpoint_url: str, seed: int, pipe: Connection) -> None:
    wire = Wire(endpoint_url, seed)
    server = await asyncio.start_server(wire.serve, HOST, 0)
    ended = asyncio.Event()

    def hear() -> None:
        try:
            word = pipe.recv()
        except EOFError:
            ended.set()
            return
        if isinstance(word, Weather):
            wire.weather = word
        pipe.send(wire.log)

    asyncio.get_running_loop().add_reader(pipe.fileno(), hear)
    pipe.send(f"http://{HOST}:{server.sockets[0].getsockname()[1]}")
    await ended.wait()
