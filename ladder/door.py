"""The front door as this machine reaches it: its addresses, and a connection that finds the site behind its name."""

import http.client
import socket
import ssl

from ladder import certificates
from ladder.settings import Settings
from ladder.stages import STAGES
from pki.certificates import NAMES

HOST = NAMES[0]


def secure(settings: Settings) -> bool:
    """Whether the stage in force speaks HTTPS."""
    return any(stage.https for stage in STAGES if stage.profile == settings.profile)


def port(settings: Settings) -> int:
    """Where the site itself is published."""
    return settings.https_port if secure(settings) else settings.http_port


def site(settings: Settings) -> str:
    """The address that a visitor types."""
    scheme, usual = ("https", 443) if secure(settings) else ("http", 80)
    return f"{scheme}://{HOST}" + ("" if port(settings) == usual else f":{port(settings)}") + "/"


def url(settings: Settings) -> str:
    """The same by its address, for a program on this machine."""
    return f"{'https' if secure(settings) else 'http'}://{settings.address}:{port(settings)}"


def connect(settings: Settings, timeout: float) -> http.client.HTTPConnection:
    """A connection for one program on this machine, still to be opened; give every request the header Host."""
    if secure(settings):
        return _Named(settings.address, port(settings), certificates.context(), timeout)
    return http.client.HTTPConnection(settings.address, port(settings), timeout=timeout)


class _Named(http.client.HTTPSConnection):
    """A connection to an address, to be answered with the certificate of the site's name."""

    def __init__(self, address: str, port: int, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(address, port, timeout=timeout, context=context)
        self._trust = context

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._trust.wrap_socket(plain, server_hostname=HOST)
