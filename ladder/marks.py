"""Marks on the boards: what the workbench did to the stack, and when, told to the collector by remote write.

A mark is a value of its own, of the moment it was made in; nobody repeats it. The message is small enough to be packed
by hand: Prometheus' WriteRequest, of which a mark needs two labels and a sample, in snappy's form without compression.
"""

import http.client
import struct
import time
import urllib.request
from contextlib import suppress

from ladder import collector
from ladder.nodes import stage_in_force
from ladder.receiver import HEADERS
from ladder.settings import Settings

FAMILY = "workbench_mark_timestamp_seconds"
PATIENCE = 1.0
"""Seconds for the collector, which may be what was broken."""
LONG = 5.0
"""Seconds, those between two scrapes; what takes longer has a second mark, at its end."""


def put(settings: Settings, what: str, begun: float) -> None:
    """Mark what was begun at this time and is done now. A collector that does not answer gets no mark, and no harm."""
    if not stage_in_force(settings).monitored:
        return
    now = time.time()
    marks = {what: begun} | ({f"{what}: done": now} if now - begun > LONG else {})
    request = urllib.request.Request(  # noqa: S310 -- the collector's address
        f"{collector.address(settings)}/api/v1/write", packed(message(marks)), HEADERS
    )
    with suppress(OSError, http.client.HTTPException):
        collector.opener().open(request, timeout=PATIENCE).close()


def message(marks: dict[str, float]) -> bytes:
    """A WriteRequest: a series for each mark, its value the same as its time."""
    return b"".join(
        field(1, field(1, label("__name__", FAMILY)) + field(1, label("mark", mark)) + field(2, sample(when)))
        for mark, when in marks.items()
    )


def label(name: str, value: str) -> bytes:
    """A Label: name, value."""
    return field(1, name.encode()) + field(2, value.encode())


def sample(when: float) -> bytes:
    """A Sample: the value as a double, the time in milliseconds."""
    return b"\x09" + struct.pack("<d", when) + b"\x10" + number(int(when * 1000))


def field(key: int, content: bytes) -> bytes:
    """A protobuf field of some length."""
    return number(key << 3 | 2) + number(len(content)) + content


def number(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def packed(content: bytes) -> bytes:
    """Snappy: the length, then pieces of up to 60 bytes that stand for themselves."""
    pieces = [content[at : at + 60] for at in range(0, len(content), 60)]
    return number(len(content)) + b"".join(bytes([len(piece) - 1 << 2]) + piece for piece in pieces)
