"""The visitor: an open-loop client of the site, in a process of its own.

Requests leave on schedule, however slow those before them are, and are timed from the moment at which each should
have left; a stall therefore shows in every request that it held up. (A closed loop, which waits for an answer before
it asks again, would see one slow request and call the rest fast: "coordinated omission", Gil Tene, 2013.)

Half of the requests open a connection, half take a kept one; reads ask for the front page and for the API in turn.
A write carries an Idempotency-Key, unless told otherwise. Nothing is ever repeated by the visitor itself, which is why
it speaks HTTP by h11 and not through a client that repeats a broken request without saying so.

Run by the drill: `python -m ladder.drills.visitor`, with the token as a line of standard input. SIGTERM ends
it, and so does the end of its input: a drill that was killed leaves no visitor behind.
"""

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import re
import selectors
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

import h11

from ladder.certificates import context
from ladder.door import HOST
from ladder.drills.record import Request, line, request_line

PATIENCE = 10.0
"""Seconds until a visitor goes away; longer than any answer may take by the budget of timeouts (docs/timeouts.md)."""
IDLE = 5.0
"""Seconds for which a connection is kept; every server keeps it longer, so a kept one is never one just closing."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class FewAtOnce(selectors.DefaultSelector):
    """Hands the loop a few sockets at a time, so that what is due leaves between them.

    After a stall hundreds of TLS handshakes go on in one moment; all of them before the clock is asked again would hold
    everybody back.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The first few that are ready; the others still are, the next time."""
        return super().select(timeout)[:5]


class Answer:
    """The answer to one request, complete."""

    def __init__(self, response: h11.Response, body: bytes) -> None:
        self.status = response.status_code
        self.headers = {name.decode(): value.decode("latin-1") for name, value in response.headers}
        self.body = body.decode(errors="replace")


async def exchange(streams: Streams, request: bytes, protocol: h11.Connection) -> Answer:
    """Send a request and read its whole answer.

    Raises:
        OSError, h11.RemoteProtocolError: the connection ended, or what came is not HTTP.
    """
    reader, writer = streams
    writer.write(request)
    await writer.drain()
    response, body = None, b""
    while not isinstance(event := protocol.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("closed without an answer")
    assert response is not None
    return Answer(response, body)


class Visitor:
    """Reads and writes at their rates, each request told to the record when it has ended."""

    def __init__(self, options: argparse.Namespace, token: str, record: TextIO) -> None:
        self._options, self._token, self._record = options, token, record
        self._kept: list[tuple[Streams, float]] = []
        self._stop = asyncio.Event()
        self._tls = context(options.trust) if options.trust else None

    async def run(self) -> None:
        """Until SIGTERM or the end of the input; then until the requests under way have ended."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)

        def hear() -> None:
            loop.remove_reader(sys.stdin)
            self._stop.set()

        loop.add_reader(sys.stdin, hear)
        rates = {"read": self._options.reads, "write": self._options.writes}
        # What no request may meet ends them all: the record would lack one without saying so.
        async with asyncio.TaskGroup() as tasks:
            for kind, rate in rates.items():
                if rate:
                    tasks.create_task(self._keep_time(tasks, kind, rate))
        # It ends by itself now. The loop's end would give SIGTERM its usual meaning again, and a second one, sent while
        # the last lines are written, would cut them off.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        for (_, writer), _ in self._kept:
            writer.close()

    async def _keep_time(self, tasks: asyncio.TaskGroup, kind: str, rate: float) -> None:
        begun = time.monotonic()
        for number in itertools.count():
            due = begun + number / rate
            if (wait := due - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait)
            if self._stop.is_set():
                return
            tasks.create_task(self._send(kind, number, due))

    async def _send(self, kind: str, number: int, due: float) -> None:
        sent = time.monotonic()
        keeps = number // 2 % 2 == 0
        text = f"{self._options.run} {number}" if kind == "write" else ""
        told: dict[str, str | int] = {}
        outcome, streams = "failed", self._take() if keeps else None
        connection = "kept" if streams else "new"
        try:
            async with asyncio.timeout_at(due + self._options.patience):
                streams = streams or await self._connect()
                outcome = "unknown"  # from here on something is sent
                protocol = h11.Connection(h11.CLIENT)
                answer = await exchange(streams, self._words(protocol, kind, number, text), protocol)
            outcome, told = judge(kind, answer)
            if keeps and protocol.our_state is h11.DONE and protocol.their_state is h11.DONE:
                self._kept.append((streams, time.monotonic()))
                streams = None
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            told = {"said": f"{type(error).__name__}: {error}"[:200]}
        finally:
            if streams:
                streams[1].close()
        zero, end = self._options.zero, time.monotonic()
        self._record.write(
            request_line(
                Request(
                    kind,
                    due - zero,
                    sent - zero,
                    end - zero,
                    outcome,
                    connection,
                    text=text,
                    **told,  # type: ignore[arg-type]
                )
            )
        )

    def _take(self) -> Streams | None:
        while self._kept:
            (reader, writer), since = self._kept.pop()
            if time.monotonic() - since < IDLE and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None

    async def _connect(self) -> Streams:
        if self._tls is None:
            return await asyncio.open_connection(self._options.address, self._options.port)
        return await asyncio.open_connection(
            self._options.address, self._options.port, ssl=self._tls, server_hostname=HOST
        )

    def _words(self, protocol: h11.Connection, kind: str, number: int, text: str) -> bytes:
        headers = [("Host", HOST), ("User-Agent", "drill")]
        if kind == "read":
            return spell(protocol, "GET", ("/", "/api/messages")[number % 2], headers)
        headers.append(("Authorization", f"Bearer {self._token}"))
        if not self._options.without_keys:
            headers.append(("Idempotency-Key", f'"{text}"'))
        return spell(protocol, "POST", "/api/messages", headers, {"body": text})


def spell(
    protocol: h11.Connection, method: str, path: str, headers: list[tuple[str, str]], body: object = None
) -> bytes:
    """A whole request, as it goes over the wire."""
    payload = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        headers = [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(payload)))]
    parts = (
        protocol.send(h11.Request(method=method, target=path, headers=headers)),
        protocol.send(h11.Data(data=payload)) if payload else b"",
        protocol.send(h11.EndOfMessage()),
    )
    return b"".join(part or b"" for part in parts)


def judge(kind: str, answer: Answer) -> tuple[str, dict[str, str | int]]:
    """The outcome, and what else the record shall say. A wall without messages is no success, whatever its status."""
    told: dict[str, str | int] = {"status": answer.status, "served_by": answer.headers.get("x-served-by", "")}
    with contextlib.suppress(ValueError, LookupError, TypeError, OverflowError):
        if kind == "write" and answer.status == 201:
            return "ok", told | {"id": int(json.loads(answer.body)["id"])}
        if kind == "read" and answer.status == 200:
            return "ok", told | {"newest": newest(answer)}
    return "failed", told | {"said": answer.body[:200]}


def newest(answer: Answer) -> int:
    """The highest id among the messages that a page or a list shows.

    Raises:
        ValueError, LookupError, TypeError, OverflowError: it shows none.
    """
    if answer.headers.get("content-type", "").startswith("application/json"):
        return max(int(message["id"]) for message in json.loads(answer.body)["messages"])
    return max(int(found) for found in re.findall(r'<article id="m(\d+)"', answer.body))


def main() -> None:
    """Read the options, then visit until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m ladder.drills.visitor")
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--trust", type=Path, help="come by HTTPS, trusting the certificates of this file alone")
    parser.add_argument("--run", required=True, help="begins the text of every message")
    parser.add_argument("--reads", type=float, required=True, help="a second")
    parser.add_argument("--writes", type=float, required=True, help="a second")
    parser.add_argument("--without-keys", action="store_true", help="writes without an Idempotency-Key")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds until it goes away")
    parser.add_argument("--zero", type=float, required=True, help="the drill's beginning by the monotonic clock")
    parser.add_argument("--record", type=Path, required=True)
    options = parser.parse_args()
    token = sys.stdin.readline().strip()
    # What is there now stays; a collection of all of it would hold requests back.
    gc.freeze()
    # Line by line, appended: the drill writes its faults into the same file.
    with options.record.open("a", encoding="utf-8", buffering=1) as record:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(FewAtOnce())) as runner:
            runner.run(Visitor(options, token, record).run())
        record.write(line("visitor", at=round(time.monotonic() - options.zero, 4), cpu=round(time.process_time(), 2)))


if __name__ == "__main__":
    main()
