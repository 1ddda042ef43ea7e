"""Whoever else is to know, beyond the stack: a second receiver of what is measured, and one of alerts.

The collector forwards all it gets by remote write: to another Prometheus, Mimir, whoever takes it.
Alertmanager's messages go to a webhook as well. Their addresses are asked for here: the firewall opens each to its
sender alone, at one port, and nothing else in the world.
"""

import base64
import http.client
import ipaddress
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ladder import credentials
from ladder.errors import UserError
from ladder.settings import ROOT, Settings

PATIENCE = 10.0
"""Seconds for the receiver's answer."""
NOTHING = b"\x00"
"""A write request without a single value, packed by snappy: it leaves no trace, but is refused like any other."""
HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "foobar-live",
}
WAY_OUT = "nothing was changed. Mend it, or leave it out: make up STAGE=… REMOTE_WRITE_URL="
NO_WEBHOOK = "nothing was changed. Mend it, or leave it out: make up STAGE=… ALERT_WEBHOOK_URL="


def prepare(settings: Settings) -> tuple[Settings, dict[str, str]]:
    """The settings with the addresses of both, if they are wanted; they answer. And their secrets, by name.

    Raises:
        UserError: one doesn't answer or refuses; nothing was changed.
    """
    receiver, receiver_port, secret = remote_write(settings)
    address, port = webhook(settings)
    secrets = {
        credentials.RECEIVER: secret,
        credentials.RECEIVER_URL: settings.raw["REMOTE_WRITE_URL"],
        credentials.WEBHOOK: settings.raw["ALERT_WEBHOOK_URL"],
    }
    found = {"REMOTE_WRITE_RECEIVER": receiver, "REMOTE_WRITE_PORT": receiver_port}
    found |= {"ALERT_WEBHOOK_RECEIVER": address, "ALERT_WEBHOOK_PORT": port}
    return replace(settings, raw={**settings.raw, **found}), secrets


def remote_write(settings: Settings) -> tuple[str, str, str]:
    """Name and address of the receiver, its port and its password; it takes writes. All are "" if there is none.

    Raises:
        UserError: it doesn't. Without the URL's path, which is a secret with some.
    """
    parts = urlsplit(settings.raw["REMOTE_WRITE_URL"])
    if not parts.hostname:
        return "", "", ""
    shown = f"{parts.scheme}://{parts.netloc}"
    secret = password(settings.raw["REMOTE_WRITE_PASSWORD_FILE"])
    address = resolve(parts, "REMOTE_WRITE_URL", WAY_OUT)
    try:
        status, said = write_nothing(parts, address, authorization(settings.raw["REMOTE_WRITE_USER"], secret))
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"the receiver at {shown} does not answer ({error}); {WAY_OUT}") from error
    if wrong := objection(status):
        asked = path(parts)
        if asked != "/":  # some repeat what they were asked for
            said = said.replace(asked, "/…")
        raise UserError(f"the receiver at {shown} {wrong} ({status} {said.strip()[:200]}); {WAY_OUT}")
    return f"{parts.hostname}:{address}", str(port(parts)), secret


def webhook(settings: Settings) -> tuple[str, str]:
    """Name and address, and port, of who else is told of alerts; somebody listens. Both are "" if there is none.

    It is sent nothing: there is no message without an alert that every such service takes.

    Raises:
        UserError: nobody does. Without the URL's path, which is a secret with most.
    """
    parts = urlsplit(settings.raw["ALERT_WEBHOOK_URL"])
    if not parts.hostname:
        return "", ""
    address = resolve(parts, "ALERT_WEBHOOK_URL", NO_WEBHOOK)
    try:
        connect(parts, address).close()
    except OSError as error:
        raise UserError(f"the webhook at {parts.netloc} does not answer ({error}); {NO_WEBHOOK}") from error
    return f"{parts.hostname}:{address}", str(port(parts))


def password(name: str) -> str:
    """What is in the file of the credentials; "" without one.

    Raises:
        UserError: it can't be read, or is empty.
    """
    if not name:
        return ""
    try:
        text = (ROOT / Path(name).expanduser()).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"REMOTE_WRITE_PASSWORD_FILE={name} can't be read: {error}; {WAY_OUT}") from error
    if not (text and text.isascii() and text.isprintable()):
        raise UserError(
            f"REMOTE_WRITE_PASSWORD_FILE={name}: one line with a password or token belongs there, in ASCII; {WAY_OUT}"
        )
    return text


def resolve(parts: SplitResult, setting: str, way_out: str) -> str:
    """The first IPv4 address of a receiver's name.

    Raises:
        UserError: it has none.
    """
    try:
        found = socket.getaddrinfo(parts.hostname, port(parts), socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # a port that is none, a name that can be none
        raise UserError(f"{setting}: {parts.hostname} has no address ({error}); {way_out}") from error
    address = str(found[0][4][0])
    if loopback(address):
        raise UserError(
            f"{setting}: {parts.hostname} is {address}, which in a container is the container itself; "
            f"say another address of this machine; {way_out}"
        )
    return address


def loopback(address: str) -> bool:
    """Whether nobody else than a machine itself reaches it there."""
    return ipaddress.ip_address(address).is_loopback


def port(parts: SplitResult) -> int:
    """The port that a URL means."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def path(parts: SplitResult) -> str:
    """What a URL asks a receiver for."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def authorization(user: str, secret: str) -> dict[str, str]:
    """The header: a user with his password, or a bearer's token; nothing without either."""
    if user:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def write_nothing(parts: SplitResult, address: str, extra: dict[str, str]) -> tuple[int, str]:
    """What this address answers to an empty write: status, text."""
    plain = connect(parts, address)
    try:
        plain.request("POST", path(parts), NOTHING, HEADERS | extra | {"Host": parts.netloc})
        response = plain.getresponse()
        return response.status, response.read(1000).decode(errors="replace")
    finally:
        plain.close()


def connect(parts: SplitResult, address: str) -> http.client.HTTPConnection:
    """A connection to whom a URL means, at this address. Raises OSError."""
    made = http.client.HTTPConnection(address, port(parts), timeout=PATIENCE)
    try:
        made.connect()
        if parts.scheme == "https":
            made.sock = ssl.create_default_context().wrap_socket(made.sock, server_hostname=parts.hostname)
    except OSError:
        made.close()
        raise
    return made


def objection(status: int) -> str:
    """What an answer means, in words; "" when all is well."""
    if status < 300:
        return ""
    if status in (401, 403):
        return "refuses the credentials"
    if status in (404, 405):
        return "takes no remote writes at this path"
    return "refuses what it is sent"
