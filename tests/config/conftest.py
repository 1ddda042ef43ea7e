"""Static truth: files against each other and against their own checkers. Needs the engine, no running stack."""

from collections.abc import Iterator

import pytest

from ladder import boards, credentials, images, settings
from ladder.rungs import Rendered, render
from ladder.settings import Settings
from ladder.stages import STAGES, Stage

SCRATCH = "foobar-config-test"


@pytest.fixture(autouse=True, scope="session")
def _machine(machine: None) -> None:
    """Every test here asks Compose or the engine."""


@pytest.fixture(scope="session")
def values() -> Settings:
    """The defaults, under a project name of their own, whatever the user's .env says."""
    raw = settings.read(settings.DEFAULTS)
    credentials.ensure()
    return settings.check(raw | {"COMPOSE_PROJECT_NAME": SCRATCH}, STAGES[-1].profile)


@pytest.fixture(scope="session")
def rendered(values: Settings) -> dict[int, Rendered]:
    """Every stage as Compose sees it."""
    return {stage.number: render(values, stage) for stage in STAGES}


@pytest.fixture(scope="session")
def built(values: Settings) -> Iterator[Stage]:
    """The highest stage, with its images built for the checkers to run in."""
    images.ensure_base_images(values, STAGES[-1])
    images.build(boards.settle(values, STAGES[-1]), STAGES[-1])
    yield STAGES[-1]
    images.forget(values)
