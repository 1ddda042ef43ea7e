"""What each hop costs, in ratios: pages a second through the chain, over those of Gunicorn asked directly.

The page is the front page, from the database. The load is wrk's, from a container of its own in the stack's
networks, bounded in connections and time. All ways share the same cores, load included, so the ratios say more than
the figures; the ways take turns, so that a busy moment of the machine meets all of them.
"""

import re
import statistics
from collections.abc import Callable, Iterator

import docker

from ladder.engine import client
from ladder.errors import UserError
from ladder.images import build_one
from ladder.settings import Settings
from ladder.stages import Stage

CONNECTIONS = 16
ROUND_SECONDS = 6
ROUNDS = 5


def ways(settings: Settings, stage: Stage) -> dict[str, str]:
    """What is asked, from the innermost to the whole chain: a name for people, and the address."""
    door = f"http://{settings.subnet_prefix}.0.2:80/"
    if "lb1" in stage.nodes:
        return {
            "app1 (Gunicorn alone)": "http://app1:8000/",
            "web1 → app1": "http://web1:80/",
            "edge → lb1 → web1, web2 → app1, app2": door,
        }
    return {"app1 (Gunicorn alone)": "http://app1:8000/", "edge → web1 → app1": door}


def run(settings: Settings, stage: Stage, say: Callable[[str], None]) -> Iterator[str]:
    """Measure, then yield the lines of the result.

    Raises:
        UserError: a request failed; figures of errors would be no figures.
    """
    image = build_one(settings, "wrk", "ladder/wrk")
    rates: dict[str, list[float]] = {name: [] for name in ways(settings, stage)}
    for turn in range(ROUNDS + 1):
        for name, url in ways(settings, stage).items():
            rate = pages_a_second(settings, image, url)
            if turn:  # the first turn warms up
                rates[name].append(rate)
                say(f"round {turn}: {rate:6.0f}  {name}")
    alone, *_ = (statistics.median(found) for found in rates.values())
    for name, found in rates.items():
        middle = statistics.median(found)
        yield f"{middle:6.0f} pages/s  {middle / alone:5.2f} of Gunicorn alone  {name}"


def pages_a_second(settings: Settings, image: str, url: str) -> float:
    """One round against one address, from a container with a leg in each zone that is asked."""
    words = [f"-c{CONNECTIONS}", "-t1", f"-d{ROUND_SECONDS}s", url]
    load = client().containers.create(image, words, network=f"{settings.project}_access")
    try:
        client().networks.get(f"{settings.project}_web").connect(load)
        load.start()
        load.wait(timeout=ROUND_SECONDS + 30)
        return parse(load.logs().decode(), url)
    except docker.errors.APIError as error:
        raise UserError(f"the load could not be run: {error.explanation}") from error
    finally:
        load.remove(force=True)


def parse(said: str, url: str) -> float:
    """Requests a second from wrk's report."""
    if bad := re.search(r"(Non-2xx.*|Socket errors.*)", said):
        raise UserError(f"{url} gave errors, so there is no figure: {bad[0]}; see: make ps")
    if not (found := re.search(r"Requests/sec:\s+([\d.]+)", said)):
        raise UserError(f"{url} could not be asked: {said.strip()}; see: make ps")
    return float(found[1])
