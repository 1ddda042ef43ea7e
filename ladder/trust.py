"""Having the programs of this machine trust our authority, and ending it.

Done where one command does it and another undoes it; said where it takes a person.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ladder import certificates
from ladder.errors import UserError


@dataclass(frozen=True)
class Store:
    """A folder of authorities that the programs of a system trust, and the command that brings a change into force."""

    folder: Path
    command: str


STORES = (
    # Debian, Ubuntu; Fedora, RHEL; SUSE; Arch
    Store(Path("/usr/local/share/ca-certificates"), "update-ca-certificates"),
    Store(Path("/etc/pki/ca-trust/source/anchors"), "update-ca-trust"),
    Store(Path("/etc/pki/trust/anchors"), "update-ca-certificates"),
    Store(Path("/etc/ca-certificates/trust-source/anchors"), "update-ca-trust"),
)
NSS = Path("~/.pki/nssdb")
"""Where Chromium and Chrome on Linux keep what one user trusts."""


def name() -> str:
    """What the authority is called in a store; another checkout's has another name."""
    return f"foobar-{certificates.fingerprint(certificates.authority().certificate)[:11].replace(':', '').lower()}"


def change(*, undo: bool, stores: tuple[Store, ...] = STORES, nss: Path = NSS) -> Iterator[str]:
    """Trust our authority, or trust it no more, wherever this user may; what was done, in words.

    Raises:
        UserError: a store refused it.
    """
    root, done = certificates.ROOT_CERTIFICATE, "is trusted no more" if undo else "is trusted"
    for store in stores:
        if not shutil.which(store.command) or not os.access(store.folder, os.W_OK):
            continue
        target = store.folder / f"{name()}.crt"
        if undo and not target.exists():
            yield f"was not trusted by the programs of this system ({target})"
            continue
        if undo:
            target.unlink()
        else:
            target.write_bytes(root.read_bytes())
        _run(store.command)
        yield f"{done} by the programs of this system ({target}, {store.command})"
    if shutil.which("certutil") and nss.expanduser().is_dir():
        database = f"sql:{nss.expanduser()}"
        listed = subprocess.run(["certutil", "-L", "-d", database, "-n", name()], capture_output=True).returncode == 0
        if undo and listed:
            _run("certutil", "-D", "-d", database, "-n", name())
        elif not undo:
            _run("certutil", "-A", "-d", database, "-n", name(), "-t", "C,,", "-i", str(root))
        yield f"{done} by Chromium and Chrome of this user ({nss})"


def by_hand(*, undo: bool) -> Iterator[str]:
    """What to do on each system, for a person."""
    root = certificates.ROOT_CERTIFICATE
    if undo:
        yield f"Wherever else you had {root} trusted, remove {name()} or {subject()!r} in the same place."
        return
    yield f"macOS             security add-trusted-cert -p ssl -k ~/Library/Keychains/login.keychain-db {root}"
    yield f"Windows           certutil -user -addstore Root {root}"
    yield f"Debian, Ubuntu    sudo cp {root} {STORES[0].folder}/{name()}.crt && sudo {STORES[0].command}"
    yield f"Fedora            sudo cp {root} {STORES[1].folder}/{name()}.crt && sudo {STORES[1].command}"
    yield f"Chrome on Linux   certutil -A -d sql:{NSS} -n {name()} -t C,, -i {root}    (package libnss3-tools)"
    yield f"Firefox           Settings, Privacy & Security, Certificates, Authorities, Import: {root}"
    yield f"curl              curl --cacert {root} …"


def subject() -> str:
    """The name that the authority gives itself."""
    return certificates.authority().certificate.subject.rfc4514_string().removeprefix("CN=")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
