"""Log lines in one place: every server's are there, one request is followed through all, no secret is among them."""

import re
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from ladder import door
from ladder.credentials import FOLDER, NAMES
from ladder.engine import containers
from ladder.logs import LAYERS
from ladder.wait import wait_until
from tests.conftest import Measure
from tests.stack import PASSWORD, Stack
from tests.traffic import Traffic

pytestmark = pytest.mark.stage(2)

FILES = "/var/log/servers"
LIMIT = 8 * 2**20
"""Bytes of a server's file, of which there are two (rsyslog/rsyslog.conf)."""
LONGEST = 20 * 2**10


def collected(stack: Stack, *command: str) -> str:
    """What a command says in the collector, where root may not read the lines but their owner may."""
    return stack.run_in("logs", "as-server", *command)


def rows(said: str) -> list[list[str]]:
    """The steps that `make logs REQUEST=…` shows: after, takes, layer, server, what. A step may need several rows."""
    cells = [[cell.strip() for cell in row.split("│")[1:-1]] for row in said.splitlines() if row.startswith("│")]
    found: list[list[str]] = []
    for row in cells:
        if row[0]:
            found.append(row)
        else:
            found[-1][4] += f" {row[4]}"
    return found


def followed(stack: Stack, response: httpx.Response, last: str) -> list[list[str]]:
    """The rows, as soon as this layer and those before it are among them: nginx writes once a second."""
    layers = [*LAYERS.values()]
    del layers[layers.index(last) + 1 :]

    def told() -> list[list[str]]:
        found = rows(stack.make("logs", REQUEST=response.headers["X-Request-ID"]).stdout)
        return found if {*layers} <= {step[2] for step in found} else []

    return wait_until(told, within=20, what=f"all of {', '.join(layers)} have told of it")


def test_a_request_with_a_long_address_is_followed_as_well(stack: Stack, visitor: httpx.Client) -> None:
    page = visitor.get("/?long=" + 2000 * "x")
    lb, *_ = page.headers["X-Served-By"].split(", ")
    assert followed(stack, page, "database")[0][2:4] == ["balancer", lb]


@pytest.mark.stage(2, 3)
def test_a_page_is_followed_through_every_layer(stack: Stack, visitor: httpx.Client) -> None:
    page = visitor.get("/")
    lb, web, app, db = page.headers["X-Served-By"].split(", ")
    steps = followed(stack, page, "database")
    assert [step[2:4] for step in steps[:4]] == [
        ["balancer", lb], ["web", web], ["application", app], ["database", db],
    ]  # fmt: skip
    shown = [rf"GET \S+ 200 → {web}", r"GET / 200 → [\d.]+:8000", "GET / 200", r"SELECT .* FROM messages .*: \d+ rows"]
    for pattern, step in zip(shown, steps, strict=False):
        assert re.fullmatch(pattern, step[4])


@pytest.mark.stage(2, 3)
def test_a_write_is_followed_to_the_primary_and_shows_no_value(stack: Stack, author: httpx.Client) -> None:
    text = "what the visitor said is nobody's business"
    posted = author.post("/api/messages", json={"body": text}, headers={"X-Request-ID": "chosen-by-a-visitor"})
    assert posted.status_code == 201
    steps = followed(stack, posted, "database")
    written = [step[3] for step in steps if step[4].startswith("INSERT INTO messages (")]
    assert written == [stack.holder("primary")]
    assert not any(text in cell for step in steps for cell in step)
    # Nor does the database keep one where it might be looked for.
    kept = "SELECT SQL_TEXT FROM performance_schema.events_statements_history_long"
    samples = "SELECT QUERY_SAMPLE_TEXT FROM performance_schema.events_statements_summary_by_digest"
    texts = [row[0] for node in stack.stage.databases for row in stack.sql(node, f"{kept}; {samples}")]
    assert any(posted.headers["X-Request-ID"] in each for each in texts)
    assert not any("what the" in each or "chosen-by" in each for each in texts)


@pytest.mark.stage(2, 3)
def test_what_the_balancer_answers_itself_ends_there(stack: Stack) -> None:
    plain = httpx.get(f"http://{stack.settings.address}:{stack.settings.http_port}/", trust_env=False)
    lb = stack.holder("lb") if stack.stage.paired else "lb1"
    assert [step[2:] for step in followed(stack, plain, "balancer")] == [["balancer", lb, "GET / 308"]]


@pytest.mark.parametrize(
    ("request_id", "said"),
    [
        ("[/] OR '1", "is no request's id: 8 to 64 letters, digits and -; it is in the answer's header X-Request-ID"),
        ("00000000-0000-4000-8000-000000000000", "no server has a line of the request 00000000-0000-4000-8000-0000"),
    ],
)
def test_an_id_that_is_none_or_that_nobody_knows_is_said_to_be(stack: Stack, request_id: str, said: str) -> None:
    done = stack.make("logs", REQUEST=request_id)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.stage(1)
def test_a_stage_without_a_collector_says_so(stack: Stack) -> None:
    done = stack.make("logs", REQUEST="00000000-0000-4000-8000-000000000000")
    assert done.returncode != 0
    assert "stage 1 collects no logs, which is one of its faults; try: make up STAGE=2" in done.stderr


def test_whatever_a_server_prints_is_collected_under_its_name_and_kept_by_the_engine(stack: Stack) -> None:
    """Said by the server's own user, on the output of its first process."""
    nodes = set(stack.stage.nodes) - {"edge"}  # says one thing, when it starts, and keeps its output to root

    def say(node: str) -> None:
        script = f'echo "{node} was here" >/proc/1/fd/1; echo "{node} was there" >/proc/1/fd/2'
        stack.run_in(node, "as-server", "sh", "-c", script)

    stack.must("restart", NODE="edge")
    with ThreadPoolExecutor() as pool:
        list(pool.map(say, nodes))

    def missing() -> set[str]:
        lines = {line.partition(" ")[2] for line in collected(stack, "sh", "-c", f"cat {FILES}/*").splitlines()}
        said = {node for node in nodes if {f"{node} {node} was here", f"{node} {node} was there"} <= lines}
        said |= {"edge"} if any(line.startswith("edge edge: visitors go to ") for line in lines) else set()
        return set(stack.stage.nodes) - said

    wait_until(lambda: not missing(), within=10, what="every line is collected", hint=lambda: f"missing: {missing()}")
    for node in nodes:
        assert f"{node} was here\n" in stack.log(node), node


def test_nobody_but_the_engine_brings_lines(stack: Stack) -> None:
    """A server that was taken over could sign with another's name."""
    address = f"{stack.settings.subnet_prefix}.4.15"
    for node in ("prometheus", "node-exporter", "web1"):
        script = f"echo '<14>1 - - lb1 - - - forged by {node}' >/dev/udp/{address}/514"
        subprocess.run(["docker", "exec", str(stack.node(node).id), "bash", "-c", script], capture_output=True)
    stack.run_in("lb1", "as-server", "sh", "-c", "echo the last line >/proc/1/fd/1")
    wait_until(
        lambda: "the last line" in collected(stack, "tail", f"{FILES}/lb1.log"), within=10, what="a true line is there"
    )
    assert "forged" not in collected(stack, "sh", "-c", f"cat {FILES}/*")


def test_a_collector_that_is_dead_or_frozen_costs_nothing(stack: Stack, traffic: Traffic) -> None:
    for verb, undo, other in (("kill", "start", "web2"), ("pause", "unpause", "app2")):
        stack.must(verb, NODE="logs")
        stack.must("restart", NODE=other)
        traffic.more("read", 20 * 2)
        traffic.more("write", 4)
        done = stack.make("logs", REQUEST="00000000-0000-4000-8000-000000000000")
        assert done.returncode != 0
        assert "the collector of logs does not answer; see: make ps, or undo all faults: make heal" in done.stderr
        before = stack.log("lb1").count("\n")
        traffic.more("read", 1)
        wait_until(lambda: stack.log("lb1").count("\n") > before, within=10, what="the engine keeps lines")  # noqa: B023
        stack.must(undo, NODE="logs")
    history = traffic.finish()
    assert not history.bad("read"), history.told("read")
    assert not history.bad("write"), history.told("write")

    def brought() -> bool:
        with stack.visitor() as visitor:
            ident = visitor.get("/").headers["X-Request-ID"]
        return stack.make("logs", REQUEST=ident).returncode == 0

    wait_until(brought, within=20, what="lines are brought again")


def test_a_servers_lines_are_kept_within_their_limit(stack: Stack, measure: Measure) -> None:
    """Three times as much as is kept, of a server that isn't there; the newest line stays."""
    script = f"""
        long=$(printf '%16000s' x)
        for n in {{1..{3 * 2 * LIMIT // 16_000}}}; do echo "<14>1 - - flood - - - $n$long" >/dev/udp/127.0.0.1/514; done
    """
    end = 'echo "<14>1 - - flood - - - the end" >/dev/udp/127.0.0.1/514'  # more than once: UDP may lose it

    def ended() -> bool:
        collected(stack, "bash", "-c", end)
        return "the end" in collected(stack, "sh", "-c", f"tail -n1 {FILES}/flood.log 2>/dev/null || true")

    stack.run_in("logs", "as-server", "bash", "-c", script)
    try:
        wait_until(ended, within=20, what="the end")
        sizes = [int(size) for size in collected(stack, "sh", "-c", f"stat -c %s {FILES}/flood.log*").split()]
        measure("bytes kept of a server that prints too much", sizes)
        assert len(sizes) == 2
        assert max(sizes) <= LIMIT + LONGEST
        assert sum(sizes) > LIMIT
    finally:
        collected(stack, "sh", "-c", f"rm {FILES}/flood.log*")


@pytest.mark.stage(2, 3)
def test_no_secret_is_in_a_line(stack: Stack) -> None:
    """Passwords, sessions and tokens of one who joins, fails to log in, logs in and posts; and all of secrets/."""
    password = f"{PASSWORD} that nobody else has"
    name = f"logged-{uuid.uuid4().hex[:12]}"
    visited: set[str] = set()

    def send(browser: httpx.Client, page: str, said: str) -> int:
        """Fill in a form; the status of the answer."""
        form = browser.get(page).text
        csrf = form.partition('name="csrf_token"')[2].partition('value="')[2].partition('"')[0]
        fields = {"csrf_token": csrf, "name": name, "password": said}
        answer = browser.post(page, data=fields, headers={"Referer": f"https://{door.HOST}{page}"})
        visited.update([csrf, *(cookie.value or "" for cookie in browser.cookies.jar)])
        return answer.status_code

    with stack.visitor() as browser:
        assert send(browser, "/register", password) == 303
    with stack.visitor() as browser:
        assert send(browser, "/login", f"not {password}") != 303
        assert send(browser, "/login", password) == 303
        token = browser.post("/api/tokens", json={"name": name, "password": password}).json()["token"]
        last = browser.post("/api/messages", json={"body": "x"}, headers={"Authorization": f"Bearer {token}"})
        assert last.status_code == 201
    secrets = {password, token, *visited, *((FOLDER / name).read_text().strip() for name in NAMES)}
    assert all(len(secret) >= 16 for secret in secrets)

    wait_until(
        lambda: last.headers["X-Request-ID"] in collected(stack, "sh", "-c", f"cat {FILES}/web*.log"),
        within=10,
        what="nginx has written what it was asked last",
    )
    said = {name: container.logs().decode(errors="replace") for name, container in containers(stack.settings).items()}
    said["the collector"] = collected(stack, "sh", "-c", f"cat {FILES}/*")
    assert last.headers["X-Request-ID"] in said["the collector"]
    for place, lines in said.items():
        for secret in secrets:
            assert secret not in lines, f"a secret is in what {place} has"
            assert secret.replace(" ", "+") not in lines, f"a secret is in what {place} has"
    assert not any("argon2" in said[node] for node in stack.stage.databases)
