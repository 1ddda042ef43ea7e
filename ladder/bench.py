"""What each hop costs, in ratios: pages a second through the chain, over those of Gunicorn asked directly.

The page is the front page, from the database. The load is wrk's, from a container of its own in the stack's
networks, bounded in connections and time. All ways share the same cores, load included, so the ratios say more than
the figures; the ways take turns, so that a busy moment of the machine meets all of them.

Where tiers are apart, then the whole chain with one, two and four application servers.
"""

import re
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import docker
import requests

from ladder import scale
from ladder.engine import client, containers
from ladder.errors import UserError
from ladder.images import build_one
from ladder.nodes import stage_in_force
from ladder.settings import Settings, load
from ladder.stages import MONITORING, Stage

CONNECTIONS = 16
ROUND_SECONDS = 6
ROUNDS = 5
PATIENCE = 10
"""Seconds until wrk takes a request for lost; more than the 6 s after which HAProxy answers by itself."""
APP_SERVERS = (1, 2, 4)
"""How many application servers take turns where there can be more than one server has."""
UNWATCHED = "the same, nobody watching"


@dataclass(frozen=True)
class Way:
    """What is asked, and from where."""

    url: str
    at: str = ""
    """The server in whose place it is asked, because the firewall lets nobody else; "" where visitors are."""


def ways(settings: Settings, stage: Stage) -> dict[str, Way]:
    """Every way, from the innermost to the whole chain, by a name for people."""
    # wrk looks at no certificate; what TLS costs is the same.
    scheme, port = ("https", 443) if stage.https else ("http", 80)
    door = Way(f"{scheme}://{settings.subnet_prefix}.0.2:{port}/")
    alone = Way("http://app1:8000/", "web1")
    webs, apps = (", ".join(stage.of(tier)) for tier in ("web", "app"))
    if stage.balancers:
        # One of two has the address, and may hand it over meanwhile.
        balancer = " or ".join(stage.balancers)
        return {
            "app1 (Gunicorn alone)": alone,
            # Where tiers are apart, it asks all of them.
            f"web1 → {apps if stage.apart else 'app1'}": Way("http://web1:80/", stage.balancers[0]),
            f"{'TLS 1.3, ' if stage.https else ''}edge → {balancer} → {webs} → {apps}": door,
        }
    return {"app1 (Gunicorn alone)": alone, "edge → web1 → app1": door}


def run(settings: Settings, stage: Stage, say: Callable[[str], None]) -> Iterator[str]:
    """Measure, then yield the lines of the result.

    Raises:
        UserError: a request failed; figures of errors would be no figures.
    """
    image = build_one(settings, "wrk", "ladder/wrk")
    rates: dict[str, list[float]] = {}
    for turn in range(ROUNDS + 1):
        found = {name: pages_a_second(settings, image, way) for name, way in ways(settings, stage).items()}
        if stage.monitored:
            *_, door = ways(settings, stage).values()
            with unwatched(settings):
                found[UNWATCHED] = pages_a_second(settings, image, door)
        for name, rate in found.items() if turn else ():  # the first turn warms up
            rates.setdefault(name, []).append(rate)
            say(f"round {turn}: {rate:6.0f}  {name}")
    alone, *_ = (statistics.median(each) for each in rates.values())
    for name, each in rates.items():
        middle = statistics.median(each)
        yield f"{middle:6.0f} pages/s  {middle / alone:5.2f} of Gunicorn alone  {name}"
    if stage.apart:
        yield from scaled(settings, stage, image, say)
    yield f"on {cores()} cores, the load included"


def scaled(settings: Settings, stage: Stage, image: str, say: Callable[[str], None]) -> Iterator[str]:
    """The whole chain with more and more application servers; as many as before afterwards, also when interrupted."""
    *_, door = ways(settings, stage).values()
    before, first = settings.app_servers, 0.0
    try:
        for count in APP_SERVERS:
            scale.scale(settings, stage, f"APP={count}")
            settings = load()
            stage = stage_in_force(settings)
            rates = [pages_a_second(settings, image, door) for _ in range(ROUNDS + 1)][1:]  # the first warms up
            middle = statistics.median(rates)
            first = first or middle
            name = f"the whole chain with {count} application server{'s' if count > 1 else ''}"
            say(f"{', '.join(f'{rate:.0f}' for rate in rates)}: {name}")
            yield f"{middle:6.0f} pages/s  {middle / first:5.2f} of one application server  {name}"
    finally:
        settings = load()
        scale.scale(settings, stage_in_force(settings), f"APP={before}")


def cores() -> int:
    """What the engine's machine has."""
    return int(client().info()["NCPU"])


@contextmanager
def unwatched(settings: Settings) -> Iterator[None]:
    """The stage with everything frozen that watches it, health checks included; thawed afterwards."""
    present = containers(settings)
    frozen = [present[node] for node in MONITORING if node in present and present[node].status == "running"]
    try:
        for container in frozen:
            container.pause()
        yield
    finally:
        for container in frozen:
            container.reload()
            if container.status == "paused":
                container.unpause()


def pages_a_second(settings: Settings, image: str, way: Way) -> float:
    """One round, from where visitors are or in the network namespace of the server that asks."""
    place = f"container:{containers(settings)[way.at].id}" if way.at else f"{settings.project}_access"
    words = [f"-c{CONNECTIONS}", "-t1", f"-d{ROUND_SECONDS}s", f"--timeout={PATIENCE}s", way.url]
    try:
        load = client().containers.run(image, words, network_mode=place, detach=True)
    except docker.errors.APIError as error:
        raise UserError(f"the load could not be run: {error.explanation}") from error
    try:
        load.wait(timeout=ROUND_SECONDS + 30)
        return parse(load.logs().decode(), way.url)
    except requests.exceptions.RequestException as error:
        raise UserError(f"{way.url} does not answer; see: make ps") from error
    finally:
        load.remove(force=True)


def parse(said: str, url: str) -> float:
    """Requests a second from wrk's report."""
    if bad := re.search(r"(Non-2xx.*|Socket errors.*)", said):
        mend = "see: make ps"
        if bad[0].startswith("Non-2xx"):
            mend += ". Or were they more than the balancers allow one visitor? make up STAGE=3 LB_REQUESTS=1000000"
        raise UserError(f"{url} gave errors, so there is no figure: {bad[0]}; {mend}")
    if not (found := re.search(r"Requests/sec:\s+([\d.]+)", said)):
        raise UserError(f"{url} could not be asked: {said.strip()}; see: make ps")
    return float(found[1])
