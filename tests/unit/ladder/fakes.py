"""A small site on loopback that behaves as a test of the visitor tells it, and counts what it was asked."""

import asyncio
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
WITHIN = 60.0
"""Seconds for what takes one or two on an idle machine."""


@dataclass(frozen=True)
class Asked:
    """One request, as the site got it."""

    words: str
    """Method and path."""
    headers: dict[str, str]
    body: str
    connection: int
    """The number of its connection."""
    turn: int
    """0 for the first on its connection."""

    @property
    def text(self) -> str:
        """Of a write: its message."""
        return str(json.loads(self.body)["body"])


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[bool]]
"""Answers a request, and tells whether the connection stays open."""


class Site:
    """A server on loopback that behaves as it is told, and counts what it was asked."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.asked: list[Asked] = []
        self.connections = 0
        self._idle: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self.do(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def do(self, work: Coroutine[None, None, T]) -> T:
        """Do something between two of its requests."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WITHIN)

    def stop(self) -> None:
        """Whatever is still under way is given up."""

        async def give_up() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.wait(others or [asyncio.create_task(asyncio.sleep(0))])

        self.do(give_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def turn(self, behaviour: Behaviour) -> int:
        """Behave otherwise from now on; how many requests it had been asked by then."""
        self.behaviour = behaviour
        return len(self.asked)

    async def close_idle(self, how: str) -> int:
        """Close the connections on which nothing is under way; how many."""
        idle = [*self._idle]
        for writer in idle:
            if how == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        return len(idle)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connections
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            for turn in itertools.count():
                if turn:  # kept, and not one that was just opened: its first request may be on its way
                    self._idle.add(writer)
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self._idle.discard(writer)
                first, *lines = head.split("\r\n")[:-2]
                headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(first.removesuffix(" HTTP/1.1"), headers, body.decode(), connection, turn)
                self.asked.append(asked)
                if not await self.behaviour(asked, writer):
                    break
        self._idle.discard(writer)
        writer.close()


def answer(status: int, body: str, kind: str = "application/json", *headers: str) -> bytes:
    """An answer with its length, on a connection that stays open."""
    head = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "X-Served-By: web1, app1"]
    return "\r\n".join([*head, *headers, "", body]).encode()


WALL = '<article id="m7">\n<article id="m12">\n<article id="m9">'
LIST = '{"messages": [{"id": 12}, {"id": 9}], "next": null}'
ACKNOWLEDGED = '{"id": 77}'


def content(asked: Asked) -> bytes:
    """What a site that is well says."""
    if asked.words == "GET /":
        return answer(200, WALL, "text/html; charset=utf-8")
    return answer(200, LIST) if asked.words == "GET /api/messages" else answer(201, ACKNOWLEDGED)


async def well(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    writer.write(content(asked))
    return True


def saying(words: bytes, stays: bool = True) -> Behaviour:
    """A site that always says the same. One that closes after a whole answer would have to say so, or it is a race."""

    async def behaviour(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(words)
        return stays

    return behaviour


class Stall:
    """Nobody is answered until it ends; then everybody is, as by a site that is well."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        await self._over.wait()
        return await well(asked, writer)

    async def end(self) -> float:
        """To be done by the site; the moment, by the monotonic clock."""
        self._over.set()
        return time.monotonic()
