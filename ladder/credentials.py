"""The secrets of a checkout: generated once, files in secrets/, out of git, images and environments.

The folder is closed to other users (0700). The files in it are readable by all, because Compose mounts them as
they are and each server reads them as a user of its own; all but private keys (certificates.py).
"""

import os
import secrets
from pathlib import Path

from ladder.errors import UserError
from ladder.settings import ROOT

FOLDER = ROOT / "secrets"
NAMES = (
    "mysql_app_password",
    "mysql_migration_password",
    "mysql_replication_password",
    "mysql_monitoring_password",
    "app_session_key",
)
RECEIVER = "remote_write_password"
"""What the second receiver of the monitoring wants; empty without one (receiver.py)."""
RECEIVER_URL = "remote_write_url"
"""Where it is: with some services the URL holds a token; empty without one."""
WEBHOOK = "alert_webhook_url"
"""Who else is told of alerts: with most services whoever knows the URL may speak; empty without one."""
CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
CA_OF_THE_SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")
"""Debian's, and of those who follow it."""


def ensure(folder: Path = FOLDER) -> list[str]:
    """Generate what is missing and check what is there. What was missing, by name.

    Raises:
        UserError: a secret is damaged. It is never replaced: the database knows the old one.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    missing = [name for name in NAMES if not (folder / name).exists()]
    for name in NAMES:
        path = folder / name
        if name in missing:
            write(path, secrets.token_hex(16).encode())  # MySQL takes 32 characters for replication, no more
        text = path.read_text(errors="replace").strip()
        if len(text) < 16 or not text.isascii() or len(text.split()) != 1:
            raise UserError(
                f"the secret secrets/{name} is damaged: one line of 16 or more letters and digits belongs there. "
                "Put the old one back, or start from nothing: make wipe && rm -r secrets"
            )
    for name in (RECEIVER, RECEIVER_URL, WEBHOOK):
        if not (folder / name).exists():
            write(folder / name, b"")
    write(folder / "host_ca", host_authorities().encode())
    return missing


def stored(name: str) -> str | None:
    """A secret of the user's own, as it was put there; None if there is none yet."""
    path = FOLDER / name
    return path.read_text() if path.exists() else None


def store(name: str, text: str) -> None:
    """Put a secret of the user's own where the containers find it."""
    if stored(name) == text:
        return
    # The same file, and no new one in its place, is what a running container sees.
    path = FOLDER / name
    path.touch()
    path.chmod(0o644)
    path.write_text(text)
    path.chmod(0o444)


def host_authorities() -> str:
    """The certificate authorities that this machine trusts, for builds behind a proxy that opens TLS.

    Those that its environment names, else the system's own. They take the place of what a base image trusts, and have
    all of that: a proxy's authority is put beside the public ones. Empty where there are none: then a build trusts what
    its base image trusts.
    """
    for path in (*(Path(os.environ.get(variable, "")) for variable in CA_VARIABLES), CA_OF_THE_SYSTEM):
        if path.is_file():
            return path.read_text()
    return ""


def write(path: Path, content: bytes, mode: int = 0o444) -> None:
    """Replace a file as a whole: an interrupted run leaves the old one or the new one."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    half = path.with_name(path.name + ".new")
    half.unlink(missing_ok=True)
    # With its mode from the beginning: nobody else reads a key in the moment before.
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    half.chmod(mode)
    half.replace(path)
