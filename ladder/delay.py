"""Holds back every packet that the kernel puts into a queue, then lets it go: a slow network, in user space.

Runs as `python3 -c` in a helper container beside the slow one (ladder/packets.py), so it needs nothing but Python:
delay.py SECONDS. It asks for the packets' numbers alone, never for what is in them.
The protocol: linux/netfilter/nfnetlink_queue.h, on a raw netlink socket.
"""

import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator

NETFILTER, SUBSYSTEM_QUEUE = 12, 3
PACKET, CONFIG, VERDICT_UP_TO = 0, 2, 3
REQUEST, ACKNOWLEDGE = 1, 4
ERROR = 2
ACCEPT = 1
HELD_AT_MOST = 1 << 16
"""Packets; more are let through at once rather than lost (FAIL_OPEN)."""
FAIL_OPEN, WHOLE_SEGMENTS = 1, 4


def attribute(kind: int, payload: bytes) -> bytes:
    """A netlink attribute, filled up to four bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def message(kind: int, payload: bytes, flags: int = REQUEST) -> bytes:
    """A message to queue 0."""
    body = struct.pack("!BBH", 0, 0, 0) + payload
    return struct.pack("=IHHII", 16 + len(body), SUBSYSTEM_QUEUE << 8 | kind, flags, 0, 0) + body


def settings() -> Iterator[bytes]:
    """What opens the queue: bind to it, numbers only, long, large segments in one piece."""
    flags = struct.pack("!I", FAIL_OPEN | WHOLE_SEGMENTS)
    for payload in (
        attribute(1, struct.pack("!BBH", 1, 0, socket.AF_INET)),
        attribute(2, struct.pack("!IB", 0, 1)),
        attribute(3, struct.pack("!I", HELD_AT_MOST)),
        attribute(5, flags) + attribute(4, flags),
    ):
        yield message(CONFIG, payload, REQUEST | ACKNOWLEDGE)


def release(number: int) -> bytes:
    """Let every packet go up to this one; they are numbered in the order in which they came."""
    return message(VERDICT_UP_TO, attribute(2, struct.pack("!II", ACCEPT, number)))


def messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each message."""
    while len(received) >= 16:
        size, kind = struct.unpack_from("=IH", received)
        yield kind, received[16:size]
        received = received[(size + 3) & ~3 :]


def numbers(received: bytes) -> Iterator[int]:
    """The numbers of the packets that were put into the queue."""
    for kind, payload in messages(received):
        if kind == SUBSYSTEM_QUEUE << 8 | PACKET:
            # After the common header the kernel puts the packet's own first: its number, then what we don't need.
            yield struct.unpack_from("!I", payload, 4 + 4)[0]


def opened() -> socket.socket:
    """The queue of this network namespace.

    Raises:
        OSError: the kernel refuses.
    """
    queue = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
    queue.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE
    queue.setsockopt(270, 5, 1)  # SOL_NETLINK, NETLINK_NO_ENOBUFS: what we miss is let through, and no error
    for request in settings():
        queue.send(request)
        for kind, payload in messages(queue.recv(1 << 16)):
            if kind == ERROR and (number := struct.unpack_from("=i", payload)[0]):
                raise OSError(-number, os.strerror(-number))
    return queue


def main(seconds: float) -> None:
    """Delay until told to end; then let go what is held."""
    queue = opened()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    held: deque[tuple[float, int]] = deque()
    print("ready", flush=True)
    try:
        while True:
            wait = max(0.0, held[0][0] - time.monotonic()) if held else None
            if select.select([queue], [], [], wait)[0]:
                due = time.monotonic() + seconds
                held.extend((due, number) for number in numbers(queue.recv(1 << 16)))
            number = None
            while held and held[0][0] <= time.monotonic():
                number = held.popleft()[1]
            if number is not None:
                queue.send(release(number))
    finally:
        if held:
            queue.send(release(held[-1][1]))


if __name__ == "__main__":
    main(float(sys.argv[1]))
