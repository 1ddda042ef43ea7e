"""The collector's answers to questions, in PromQL, over its published port."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from ladder.errors import UserError
from ladder.nodes import demand, stage_in_force
from ladder.settings import Settings

PATIENCE = 5.0
"""Seconds for an answer."""


@dataclass(frozen=True)
class Sample:
    """One series' value at this moment."""

    labels: dict[str, str]
    value: float


def address(settings: Settings) -> str:
    """Where this machine finds it."""
    return f"http://127.0.0.1:{settings.prometheus_port}"


def opener() -> urllib.request.OpenerDirector:
    """Whatever proxy the environment names is not for this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(settings: Settings, question: str) -> list[Sample]:
    """The values of an expression now.

    Raises:
        UserError: this stage has no collector, or it doesn't answer.
    """
    demand(stage_in_force(settings), "monitored")
    url = f"{address(settings)}/api/v1/query?{urllib.parse.urlencode({'query': question})}"
    try:
        with opener().open(url, timeout=PATIENCE) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise UserError(f"the collector can't answer: {error.read().decode(errors='replace')[:300]}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError("the collector does not answer; see: make ps, or undo all faults: make heal") from error
    return [Sample(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]
