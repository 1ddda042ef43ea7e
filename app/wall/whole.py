"""An answer leaves Gunicorn in one piece, or not at all.

As it comes, Gunicorn sends an answer's head, then its body, and on a busy server they are some ten milliseconds apart:
with the first, Python's lock goes to another thread. A server that is killed between them leaves nginx with a head that
has gone on to the visitor already, so that no other application server can be asked any more.
"""
# mypy: disable-error-code="import-untyped,misc,no-any-unimported"

from __future__ import annotations

from typing import Any

from gunicorn.http import wsgi


class Held(bytearray):
    """Takes for a connection what is sent on one."""

    sendall = bytearray.extend


class InOnePiece(wsgi.Response):
    """Gunicorn's answer, its head held back until there is some of the body, and sent with it."""

    sock: Any

    def write(self, data: bytes) -> None:
        """Send a part of the body, and before the first one the head."""
        if self.headers_sent:
            super().write(data)
            return
        connection, held = self.sock, Held()
        self.sock = held
        try:
            super().write(data)
        finally:
            self.sock = connection
        connection.sendall(held)


def install() -> None:
    """Have Gunicorn answer so. It knows no setting for this; which class it takes, a test watches."""
    wsgi.Response = InOnePiece
