"""HTTPS, as visitors and those who would harm them find it."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import dotenv
import httpx
import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ladder import certificates, door, images
from ladder.certificates import ROOT_CERTIFICATE, ROOT_KEY, SITE
from ladder.packets import helpers
from ladder.settings import ROOT, Settings
from ladder.wait import wait_until
from pki.certificates import NAMES, Pair, make_leaf, make_root
from tests.stack import Stack
from tests.traffic import Traffic

pytestmark = pytest.mark.stage(2)

SECRET = f"correct-{uuid.uuid4().hex}"


class Http3(QuicConnectionProtocol):
    """One GET by HTTP/3, and its answer."""

    def ask(self, path: str) -> asyncio.Future[tuple[dict[bytes, bytes], bytes]]:
        self._http = H3Connection(self._quic)
        self._headers: dict[bytes, bytes] = {}
        self._body = b""
        self._answer = asyncio.get_running_loop().create_future()
        asked = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", door.HOST.encode())]
        self._http.send_headers(
            self._quic.get_next_available_stream_id(), [*asked, (b":path", path.encode())], end_stream=True
        )
        self.transmit()
        return self._answer

    def quic_event_received(self, event: QuicEvent) -> None:
        if hasattr(self, "_http"):
            for each in self._http.handle_event(event):
                self._take(each)

    def _take(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self._headers = dict(event.headers)
        elif isinstance(event, DataReceived):
            self._body += event.data
        if isinstance(event, HeadersReceived | DataReceived) and event.stream_ended:
            self._answer.set_result((self._headers, self._body))


async def by_http3(settings: Settings, path: str) -> tuple[dict[bytes, bytes], bytes]:
    """The headers and the body of a page, by HTTP/3, from a visitor who trusts our authority alone."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=door.HOST)
    configuration.load_verify_locations(str(ROOT_CERTIFICATE))
    way = connect(settings.address, settings.https_port, configuration=configuration, create_protocol=Http3)
    async with asyncio.timeout(20), way as client:
        return await cast(Http3, client).ask(path)


@pytest.mark.stage(2, 3)
def test_http3_brings_the_same_page(stack: Stack) -> None:
    headers, body = asyncio.run(by_http3(stack.settings, "/api/served-by"))

    assert headers[b":status"] == b"200", headers
    assert body.startswith(b'{"lb"'), body
    assert headers[b"strict-transport-security"] == b"max-age=63072000"


def shaken(settings: Settings, context: ssl.SSLContext, name: str = door.HOST) -> ssl.SSLSocket:
    """A connection by which nothing was asked yet."""
    plain = socket.create_connection((settings.address, settings.https_port), timeout=20)
    return context.wrap_socket(plain, server_hostname=name)


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)])
def test_http2_is_spoken_with_whoever_can(stack: Stack, offered: list[str], chosen: str | None) -> None:
    context = certificates.context(ROOT_CERTIFICATE)
    if offered:
        context.set_alpn_protocols(offered)
    with shaken(stack.settings, context) as connection:
        assert connection.selected_alpn_protocol() == chosen
        assert connection.version() == "TLSv1.3"


def test_both_names_are_the_certificates_and_no_other_is(stack: Stack) -> None:
    context = certificates.context(ROOT_CERTIFICATE)
    for name in NAMES:
        shaken(stack.settings, context, name).close()
    for name in ("foobar.org", "mail.foobar.com"):
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            shaken(stack.settings, context, name)


def test_who_does_not_trust_our_authority_is_warned(stack: Stack) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shaken(stack.settings, ssl.create_default_context())


def test_an_older_tls_is_refused(stack: Stack) -> None:
    context = certificates.context(ROOT_CERTIFICATE)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="protocol version"):
        shaken(stack.settings, context)


def test_mozillas_modern_profile_is_kept(stack: Stack) -> None:
    """As sslyze sees it, which comes as a visitor, by the site's name."""
    image = images.build_one(stack.settings, "sslyze", "tests/sslyze")
    command = ["docker", "run", "--rm", f"--network={stack.settings.project}_access", "--cap-drop=ALL"]
    command += [f"--dns={stack.settings.subnet_prefix}.0.2", f"--volume={ROOT_CERTIFICATE}:/ca.crt:ro", image]
    command += ["--mozilla_config=modern", "--certinfo_ca_file=/ca.crt", door.HOST]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert f"{door.HOST}:443: OK - Compliant" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.stage(2, 3)
@pytest.mark.parametrize(
    ("host", "to"),
    [("www.foobar.com", "www.foobar.com"), ("foobar.com:80", "foobar.com"), ("evil.example", "www.foobar.com")],
)
def test_http_leads_to_https(stack: Stack, host: str, to: str) -> None:
    with httpx.Client(trust_env=False, base_url=f"http://{stack.settings.address}:{stack.settings.http_port}") as plain:
        for method, path in (("GET", "/"), ("GET", "/api/messages?limit=2&before=%2F"), ("POST", "/login")):
            answer = plain.request(method, path, headers={"Host": host})
            assert answer.status_code == 308
            assert answer.headers["Location"] == f"https://{to}:{stack.settings.https_port}{path}"
            # Whoever sits on the way could say it too, so it would mean nothing.
            assert "Strict-Transport-Security" not in answer.headers


PAGES = ("/", "/register", "/no-such-page", "/api/messages", "/api/nothing", "/static/style.css", "/errors/400.html")


@pytest.mark.stage(2, 3)
@pytest.mark.parametrize("path", PAGES)
def test_every_answer_says_what_a_browser_may_do_with_it(stack: Stack, path: str) -> None:
    """What MDN's HTTP Observatory counts: https://developer.mozilla.org/en-US/observatory/docs/tests_and_scoring."""
    with stack.visitor() as visitor:
        headers = visitor.get(path).headers
    assert headers["Strict-Transport-Security"] == "max-age=63072000"  # half a year is the least
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Alt-Svc"] == f'h3=":{stack.settings.https_port}"; ma=3600'
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    assert "Access-Control-Allow-Origin" not in headers
    for name in headers:
        assert len(headers.get_list(name)) == 1 or name == "vary", name


@pytest.mark.stage(2, 3)
def test_the_session_travels_by_https_to_this_host_alone(stack: Stack) -> None:
    with stack.visitor() as visitor:
        (cookie,) = visitor.get("/register").headers.get_list("Set-Cookie")
    assert cookie.startswith("__Host-session=")
    words = {word.strip() for word in cookie.split(";")[1:]}
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= words
    assert not any(word.startswith("Domain") for word in words)


def served(stack: Stack) -> str:
    """The fingerprint of the certificate that visitors get."""
    with shaken(stack.settings, certificates.context()) as connection:
        return certificates.fingerprint(x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)))


def test_a_certificate_is_renewed_without_a_failed_request(stack: Stack, traffic: Traffic) -> None:
    before = served(stack)
    seen = {before}
    for _ in range(3):
        said = stack.must("certificate", RENEW="1")
        assert "lb1 serves the new certificate" in said
        assert "this one" in said
        traffic.more("read", 10)
        seen.add(served(stack))
    assert len(seen) == 4
    asyncio.run(by_http3(stack.settings, "/"))
    traffic.more("write", 4)
    history = traffic.finish()
    assert not history.bad("read"), history.told("read")
    assert not history.bad("write"), history.told("write")
    # The balancer takes it from its file when it starts anew.
    stack.must("restart", NODE="lb1")
    stack.serves()
    assert served(stack) not in {before}
    assert "this one" in stack.must("certificate")


def test_what_haproxy_does_not_take_changes_nothing(stack: Stack) -> None:
    before = served(stack)
    command = ["docker", "exec", "--interactive", str(stack.node("lb1").id), "as-server", "certificate-load"]
    done = subprocess.run(command, input=ROOT_CERTIFICATE.read_bytes(), capture_output=True)
    assert done.returncode != 0
    assert b"HAProxy:" in done.stderr
    assert served(stack) == before
    assert "this one" in stack.must("certificate")


@contextmanager
def files(folder: Path, pair: Pair) -> Iterator[dict[str, str]]:
    """A certificate and its key as a user has them, and the values that name them."""
    (folder / "fullchain.pem").write_bytes(pair.chain)
    (folder / "privkey.pem").write_bytes(pair.key)
    yield {"TLS_CERTIFICATE": str(folder / "fullchain.pem"), "TLS_KEY": str(folder / "privkey.pem")}


NOW = datetime.now(UTC)
OTHERS = make_root(NOW)
WRONG = {
    "the key is not that of the certificate": Pair(make_leaf(OTHERS, NOW).chain, make_leaf(OTHERS, NOW).key),
    "the certificate expired on ": make_leaf(OTHERS, NOW - timedelta(days=40)),
    "not for www.foobar.com and foobar.com": OTHERS,
    "the key is no PEM file": Pair(make_leaf(OTHERS, NOW).chain, b"nonsense"),
    "the certificate is no PEM file": Pair(b"nonsense", make_leaf(OTHERS, NOW).key),
}


@pytest.mark.parametrize("trouble", WRONG)
def test_a_certificate_that_will_not_do_is_refused_and_the_site_goes_on(
    stack: Stack, tmp_path: Path, trouble: str
) -> None:
    before = served(stack)
    with files(tmp_path, WRONG[trouble]) as given:
        done = stack.make("up", STAGE="2", **given)
    assert done.returncode != 0
    assert trouble in done.stderr
    assert "nothing was changed" in done.stderr
    assert "Traceback" not in done.stderr
    assert stack.starts() == stack.since
    assert served(stack) == before


def test_ones_own_certificate_takes_its_place_and_leaves_it(stack: Stack, tmp_path: Path) -> None:
    root = make_root(NOW)
    theirs = make_leaf(root, NOW)
    env_file = ROOT / stack.environment["COMPOSE_ENV_FILES"]
    with files(tmp_path, Pair(theirs.chain + root.chain, theirs.key)) as given:
        try:
            said = stack.must("up", STAGE="2", **given)
            assert "took your certificate" in said
            (tmp_path / "root.pem").write_bytes(root.chain)
            with shaken(stack.settings, certificates.context(tmp_path / "root.pem")) as connection:
                assert connection.getpeercert(binary_form=True) == theirs.certificate.public_bytes(Encoding.DER)
            assert "this one" in stack.must("certificate")
            done = stack.make("trust")
            assert done.returncode != 0
            assert "your own certificate" in done.stderr
            newer = make_leaf(root, NOW)
            (tmp_path / "fullchain.pem").write_bytes(newer.chain + root.chain)
            (tmp_path / "privkey.pem").write_bytes(newer.key)
            assert "this one" in stack.must("certificate", RENEW="1")
        finally:
            stack.must("up", STAGE="2", TLS_CERTIFICATE="", TLS_KEY="")
            stack.is_up(2)
    assert not dotenv.dotenv_values(env_file).get("TLS_CERTIFICATE")
    with stack.visitor() as visitor:
        assert visitor.get("/").status_code == 200


@pytest.mark.stage(2, 3)
def test_the_authoritys_key_is_in_no_container(stack: Stack) -> None:
    for node in stack.stage.nodes:
        mounts = [mount["Source"] for mount in stack.node(node).attrs["Mounts"] if mount["Type"] == "bind"]
        assert str(ROOT_KEY) not in mounts
        assert str(SITE) not in mounts or node in stack.stage.balancers, node
        assert not any(str(ROOT_KEY).startswith(f"{source}/") for source in mounts), node


def overheard(stack: Stack, node: str) -> str:
    """What `make wire` shows at this server while somebody with the password SECRET tries to join."""
    command = ["make", "--silent", "wire", f"NODE={node}"]
    with subprocess.Popen(
        command, cwd=ROOT, env=stack.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as watching:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(watching.stdout or ()))
        reader.start()
        try:
            wait_until(lambda: any("listening on" in line for line in lines), within=60, what="somebody listens")
            # Refused, because the name is too short; heard all the same.
            with stack.visitor() as visitor:
                assert visitor.post("/api/accounts", json={"name": "x", "password": SECRET}).status_code == 422
            # What is said in the open after it shows that what was said before has been heard.
            mark = uuid.uuid4().hex
            httpx.get(f"http://{stack.settings.address}:{stack.settings.http_port}/{mark}", trust_env=False)
            wait_until(lambda: any(mark in line for line in lines), within=30, what="the last word is heard")
        finally:
            os.killpg(watching.pid, signal.SIGINT)
            reader.join()
    assert not helpers(stack.settings)
    return "".join(lines)


@pytest.mark.stage(1)
def test_a_password_is_read_off_the_wire_where_there_is_no_https(stack: Stack) -> None:
    assert SECRET in overheard(stack, "edge")


def test_a_password_is_not_read_before_the_balancer_and_still_is_behind_it(stack: Stack) -> None:
    assert SECRET not in overheard(stack, "edge")
    assert SECRET in overheard(stack, "lb1")
