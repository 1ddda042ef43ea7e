"""Whoever else is to know: another Prometheus, which wants a user and a password, and a webhook, which speaks TLS."""

import base64
import json
import shlex
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from docker.models.containers import Container

from ladder import alerts
from ladder.engine import client
from ladder.firewall import counts
from ladder.wait import wait_until
from tests.stack import Stack

pytestmark = pytest.mark.stage(2)

USER, PASSWORD = "foobar", "correct horse battery"
HASH = "$2b$04$pqu.Nl3LfPO/mO5QNAHKXeveBQunnBf3xwwkEHpvBCiaoVfSXlABO"  # of the password, by bcrypt
FLOW = "the collector forwards to the second receiver"
WEBHOOK_FLOW = "somebody of the user's is told as well"
RECEIVER, WEBHOOK = 77, 78
"""The last parts of their addresses."""
WRITE = "/api/v1/write?token=a-secret-of-the-users"
PATH = "/services/T0/a-secret-of-the-users"
SERVE = """
import http.server, os, ssl
class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.path, self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(404)
        self.end_headers()
        self.wfile.write(f"no {self.path} here".encode())
with open("/tmp/pem", "w") as file:
    file.write(os.environ["PEM"])
server = http.server.ThreadingHTTPServer(("", 8443), Webhook)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/tmp/pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def other(the_stack: Stack) -> Iterator[str]:
    """The address of a receiver beyond the stack."""
    the_stack.ensure(2)
    config = f"printf 'basic_auth_users:\\n  {USER}: {HASH}\\n' >/tmp/web.yml; echo 'global: {{}}' >/tmp/prometheus.yml"
    start = "exec prometheus --config.file=/tmp/prometheus.yml --web.config.file=/tmp/web.yml"
    command = ["-c", f"{config}; {start} --storage.tsdb.path=/tmp/data --web.enable-remote-write-receiver"]
    with beyond(the_stack, "prometheus", "sh", command, RECEIVER) as (_, address):
        wait_until(lambda: reached(address), within=30, what="the second receiver answers")
        yield address


@pytest.fixture(scope="module")
def webhook(the_stack: Stack, authority: trustme.CA) -> Iterator[tuple[Container, str]]:
    """A webhook beyond the stack, and its URL."""
    the_stack.ensure(2)
    address = f"{the_stack.settings.subnet_prefix}.5.{WEBHOOK}"
    pem = authority.issue_cert(address).private_key_and_cert_chain_pem.bytes().decode()
    with beyond(the_stack, "app", "python3", ["-I", "-c", SERVE], WEBHOOK, PEM=pem) as (container, address):
        yield container, f"https://{address}:8443{PATH}"


@contextmanager
def beyond(
    stack: Stack, image: str, entrypoint: str, command: list[str], number: int, **environment: str
) -> Iterator[tuple[Container, str]]:
    """A container that is none of the stack's, where the collector's port is published, and its address."""
    network, address = f"{stack.settings.project}_operator", f"{stack.settings.subnet_prefix}.5.{number}"
    container = client().containers.run(
        f"{stack.settings.project}/{image}",
        command,
        entrypoint=entrypoint,
        environment=environment,
        labels={"com.docker.compose.project": "elsewhere"},  # the image's own would make it ours
        network=network,
        networking_config={network: client().api.create_endpoint_config(ipv4_address=address)},
        cap_drop=["ALL"],
        mem_limit="128m",
        detach=True,
    )
    try:
        yield container, address
    finally:
        container.remove(force=True)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches for the webhook."""
    return trustme.CA()


@pytest.fixture(scope="module")
def values(
    the_stack: Stack,
    other: str,
    webhook: tuple[Container, str],
    authority: trustme.CA,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    """With these the stage is up, and tells both; afterwards it tells nobody."""
    folder = tmp_path_factory.mktemp("beyond")
    (folder / "password").write_text(PASSWORD)
    authority.cert_pem.write_to_path(folder / "authority")
    given = {
        "REMOTE_WRITE_URL": f"http://{other}:9090{WRITE}",
        "REMOTE_WRITE_USER": USER,
        "REMOTE_WRITE_PASSWORD_FILE": str(folder / "password"),
        "ALERT_WEBHOOK_URL": webhook[1],
        "SSL_CERT_FILE": str(folder / "authority"),
    }
    try:
        the_stack.up = -1
        the_stack.must("up", STAGE="2", **given)
        the_stack.is_up(2)
        yield given
    finally:
        the_stack.up = -1
        the_stack.must("up", STAGE="2", **dict.fromkeys(given, ""))
    assert not {FLOW, WEBHOOK_FLOW} & {count.reason for count in counts(the_stack.settings)}


def reached(address: str) -> bool:
    try:
        said(address, "vector(1)")
    except OSError:
        return False
    return True


def said(address: str, question: str) -> list[str]:
    """The instances that the second receiver tells of."""
    url = f"http://{address}:9090/api/v1/query?{urllib.parse.urlencode({'query': question})}"
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers={"Authorization": f"Basic {token}"}), timeout=5) as response:
        return [str(series["metric"].get("instance")) for series in json.load(response)["data"]["result"]]


def test_a_second_receiver_gets_everything_and_is_the_only_way_out(
    stack: Stack, other: str, values: dict[str, str]
) -> None:
    wait_until(
        lambda: {"lb1", "app1", "prometheus", "machine"} <= set(said(other, "up")),
        within=60,
        what="the second receiver knows all servers",
        hint=lambda: stack.log("prometheus")[-2000:],
    )
    # Rates as well, worked out by our collector.
    wait_until(lambda: "app1" in said(other, "instance:requests:rate20s"), within=60, what="it has the rates")
    assert sum(count.packets for count in counts(stack.settings) if count.reason == FLOW)
    assert not opens(stack, other, 9091), "another port of the same address"
    assert not opens(stack, "198.51.100.7", 9090), "the same port of another address"
    told = json.dumps(stack.node("prometheus").attrs) + stack.log("prometheus")
    assert PASSWORD not in told
    assert WRITE not in told, "with some services the URL holds a token"
    assert "the second receiver" in stack.log("prometheus"), "its lines are there all the same"


@pytest.mark.long
def test_a_webhook_is_told_of_alerts_as_well(
    stack: Stack, webhook: tuple[Container, str], values: dict[str, str]
) -> None:
    container, _ = webhook
    stack.must("kill", NODE="nginx-exporter")
    wait_until(lambda: PATH in told(container), within=60, what="the webhook is told", hint=lambda: told(container))
    message = json.loads(told(container).partition(PATH)[2].splitlines()[0])
    assert message["alerts"][0]["labels"]["alertname"] == "ServerDown"
    assert [m for m in alerts.told(stack.settings) if m["alert"] == "ServerDown"], "the pager is told all the same"
    assert sum(count.packets for count in counts(stack.settings) if count.reason == WEBHOOK_FLOW)
    assert PATH not in json.dumps(stack.node("alertmanager").attrs) + stack.log("alertmanager")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("REMOTE_WRITE_PASSWORD_FILE", "refuses the credentials (401"),
        ("SSL_CERT_FILE", "the webhook at {host} does not answer ([SSL: CERTIFICATE_VERIFY_FAILED]"),
    ],
)
def test_who_refuses_or_is_not_to_be_trusted_is_told_before_anything_is_changed(
    stack: Stack, webhook: tuple[Container, str], values: dict[str, str], tmp_path: Path, wrong: str, said: str
) -> None:
    (tmp_path / "wrong").write_text("wrong")
    trustme.CA().cert_pem.write_to_path(tmp_path / "nobody")
    bad = {"REMOTE_WRITE_PASSWORD_FILE": tmp_path / "wrong", "SSL_CERT_FILE": tmp_path / "nobody"}[wrong]

    refused = stack.make("up", STAGE="2", **(values | {wrong: str(bad)}))

    assert refused.returncode != 0
    assert said.format(host=urllib.parse.urlsplit(webhook[1]).netloc) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert PATH not in refused.stderr
    assert WRITE not in refused.stderr
    assert stack.starts() == stack.since, "the running site goes on"


def told(container: Container) -> str:
    return container.logs(stderr=False).decode()


def opens(stack: Stack, host: str, port: int) -> bool:
    """Can the collector open a connection? Refused is an answer as well."""
    script = f"echo > /dev/tcp/{shlex.quote(host)}/{port}"
    command = ["docker", "exec", str(stack.node("prometheus").id), "timeout", "2", "bash", "-c", script]
    return subprocess.run(command, capture_output=True).returncode != 124
