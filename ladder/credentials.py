"""The secrets of a checkout: generated once, files in secrets/, out of git, images and environments.

The folder is closed to other users (0700). The files in it are readable by all, because Compose mounts them as
they are and each server reads them as a user of its own.
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
CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def ensure(folder: Path = FOLDER) -> None:
    """Generate what is missing and check what is there.

    Raises:
        UserError: a secret is damaged. It is never replaced: the database knows the old one.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    for name in NAMES:
        path = folder / name
        if not path.exists():
            _write(path, secrets.token_hex(16))  # MySQL takes 32 characters for replication, no more
        text = path.read_text(errors="replace").strip()
        if len(text) < 16 or not text.isascii() or len(text.split()) != 1:
            raise UserError(
                f"the secret secrets/{name} is damaged: one line of 16 or more letters and digits belongs there. "
                "Put the old one back, or start from nothing: make wipe && rm -r secrets"
            )
    _write(folder / "host_ca", host_authorities())


def host_authorities() -> str:
    """The certificate authorities that this machine's environment names, for builds behind a proxy that opens TLS.

    Empty on a machine whose environment names none: then a build trusts what its base image trusts.
    """
    for variable in CA_VARIABLES:
        path = Path(os.environ.get(variable, ""))
        if path.is_file():
            return path.read_text()
    return ""


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole: an interrupted run leaves the old one or the new one."""
    half = path.with_name(path.name + ".new")
    half.write_text(text)
    half.chmod(0o444)
    half.replace(path)
