"""The files of the site's certificate: made or taken at `up`, renewed while the site runs.

All are in secrets/. The authority's key never leaves that folder; the balancers get site.pem, certificate and key.
Read next: ../pki/certificates.py (what is in them), ../haproxy/certificate-load (how HAProxy takes a new one).
"""

import base64
import hashlib
import re
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import Certificate

from ladder.credentials import FOLDER, write
from ladder.engine import containers
from ladder.errors import UserError
from ladder.nodes import stage_in_force
from ladder.settings import ROOT, Settings
from ladder.stages import Stage
from pki.certificates import Pair, days_left, make_leaf, make_root, spki_sha256, troubles

ROOT_KEY, ROOT_CERTIFICATE, SITE = FOLDER / "ca.key", FOLDER / "ca.crt", FOLDER / "site.pem"
TRUSTED = FOLDER / "trusted.crt"
"""What a visitor trusts who has it from us, the prober for one: our authority, or the chain of the user's own."""
RENEW_BEFORE = 10.0
"""Days: `up` renews what has fewer left."""
LOADED = ROOT / ".ladder/certificate"
"""The digest of the certificate that was last brought into running balancers; what they start with is the file's."""
ANEW = "Put the old ones back, or begin with a new authority, to be trusted anew: rm secrets/ca.* secrets/site.pem"


def check(settings: Settings) -> None:
    """Whether `ensure` will have what it needs.

    Raises:
        UserError: the user's own will not do, or the authority's files are damaged.
    """
    if settings.tls_certificate:
        _users(settings, datetime.now(UTC))
    elif ROOT_KEY.exists() or ROOT_CERTIFICATE.exists():
        authority()


def ensure(settings: Settings) -> list[str]:
    """Have a certificate that will do; what was done, in words.

    Raises:
        UserError: the user's own will not do, or the authority's files are damaged. Nothing was changed.
    """
    now = datetime.now(UTC)
    said = ["made an authority for this machine, secrets/ca.crt"] if ensure_authority() else []
    if settings.tls_certificate:
        if (pair := _users(settings, now)) != site() or not _trusted_is(pair.chain):
            _keep(pair, pair.chain)
            said.append(f"took your certificate, {settings.tls_certificate}")
    elif not (_will_do(site(), authority(), now) and _trusted_is(authority().chain)):
        _keep(make_leaf(authority(), now), authority().chain)
        said.append("made a certificate for www.foobar.com and foobar.com")
    return said


def ensure_authority() -> bool:
    """Have an authority of our own; whether it is a new one."""
    if ROOT_KEY.exists() or ROOT_CERTIFICATE.exists():
        return False
    made = make_root(datetime.now(UTC))
    write(ROOT_KEY, made.key, 0o600)
    write(ROOT_CERTIFICATE, made.chain, 0o444)
    return True


def renew(settings: Settings) -> list[str]:
    """Have every balancer serve a new certificate from the next handshake on; what was done, in words.

    The user's own is read anew from its files.

    Raises:
        UserError: it will not do, or a balancer did not take it.
    """
    now = datetime.now(UTC)
    if settings.tls_certificate:
        pair = _users(settings, now)
        _keep(pair, pair.chain)
    else:
        _keep(make_leaf(authority(), now), authority().chain)
    return load(settings, stage_in_force(settings))


def load(settings: Settings, stage: Stage) -> list[str]:
    """Have every balancer that runs serve the site's certificate, as it is in its file, from the next handshake on.

    Raises:
        UserError: one did not take it, or could not; the others have.
    """
    present = containers(settings)
    said, failed = [], []
    for node in (node for node in stage.nodes if node.startswith("lb")):
        if node in present and present[node].status == "paused":
            failed.append(
                f"{node} is frozen, and has the old certificate; say it again after: make unpause NODE={node}"
            )
            continue
        if node not in present or present[node].status != "running":
            said.append(f"{node} does not run; it will serve the new certificate when it does")
            continue
        command = ["docker", "exec", "--interactive", str(present[node].id), "as-server", "certificate-load"]
        done = subprocess.run(command, input=SITE.read_bytes(), capture_output=True)
        if done.returncode:
            text = (done.stdout + done.stderr).decode(errors="replace").strip()
            failed.append(f"{node} did not take the new certificate; try: make restart NODE={node}\n{text}")
            continue
        said.append(f"{node} serves the new certificate")
    if failed:
        raise UserError("\n".join([*failed, *said]))
    mark_loaded()
    return said


def mark_loaded() -> None:
    """Keep in mind that no balancer that runs serves another certificate than that of the file."""
    LOADED.parent.mkdir(exist_ok=True)
    LOADED.write_text(_digest())


def loaded() -> bool:
    """Whether the balancers that run have been brought the certificate as it is in its file."""
    return LOADED.exists() and LOADED.read_text() == _digest()


def site() -> Pair | None:
    """The site's certificate; None if there is none that can be read."""
    try:
        text = SITE.read_bytes()
    except FileNotFoundError:
        return None
    begin = re.search(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----", text, re.MULTILINE)
    found = Pair(text[: begin.start()], text[begin.start() :]) if begin else None
    try:
        return found if found and found.certificates else None
    except ValueError:
        return None


def authority() -> Pair:
    """Our own authority.

    Raises:
        UserError: its files are damaged, or have expired.
    """
    try:
        found = Pair(ROOT_CERTIFICATE.read_bytes(), ROOT_KEY.read_bytes())
    except OSError as error:
        raise UserError(f"the authority's files can't be read: {error}. {ANEW}") from error
    if wrong := troubles(found, datetime.now(UTC), names=()):
        raise UserError(f"the authority in secrets/ca.crt and secrets/ca.key is of no use: {'; '.join(wrong)}. {ANEW}")
    return found


def context(trusted: Path = TRUSTED) -> ssl.SSLContext:
    """The TLS of a visitor who trusts what is in this file, and nothing else."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    # The user's file may end before the authority.
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    made.load_verify_locations(trusted)
    return made


def fingerprint(certificate: Certificate) -> str:
    """The SHA-256 of a certificate, as browsers show it."""
    return certificate.fingerprint(SHA256()).hex(":").upper()


def pin() -> str:
    """The digest of the site's public key, by which a browser can be told to accept its certificate; base64."""
    found = site()
    assert found, "up has made one"
    return base64.b64encode(spki_sha256(found.certificate)).decode()


def _digest() -> str:
    return hashlib.sha256(SITE.read_bytes()).hexdigest()


def _trusted_is(chain: bytes) -> bool:
    return TRUSTED.exists() and TRUSTED.read_bytes() == chain


def _keep(pair: Pair, trusted: bytes) -> None:
    write(SITE, pair.chain.strip() + b"\n" + pair.key.strip() + b"\n", 0o600)
    # The same file, and no new one in its place, is what a running prober sees.
    TRUSTED.write_bytes(trusted)


def _users(settings: Settings, now: datetime) -> Pair:
    """The user's own certificate. Raises UserError if it will not do."""
    certificate, key = settings.tls_certificate, settings.tls_key
    try:
        pair = Pair((ROOT / certificate).read_bytes(), (ROOT / key).read_bytes())
    except OSError as error:
        raise UserError(f"your certificate can't be read, nothing was changed: {error}") from error
    if wrong := troubles(pair, now):
        raise UserError(
            f"TLS_CERTIFICATE={certificate} with TLS_KEY={key} will not do, nothing was changed: {'; '.join(wrong)}. "
            "Take others, or none, for one of our own: make up STAGE=… TLS_CERTIFICATE= TLS_KEY="
        )
    # The chain is handed on to whoever is to trust it; some keep the key in the same file.
    return pair.alone()


def _will_do(pair: Pair | None, root: Pair, now: datetime) -> bool:
    """Whether this is one of our own, all is well with it, and it has a while left."""
    if pair is None or troubles(pair, now) or days_left(pair.certificate, now) < RENEW_BEFORE:
        return False
    try:
        pair.certificate.verify_directly_issued_by(root.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
