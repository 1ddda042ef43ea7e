"""The docs name every command, value, stage and fault, and nothing that isn't there."""

import re
import subprocess

import pytest

from ladder import settings
from ladder.drills import promises
from ladder.faults import FAULTS
from ladder.settings import ROOT
from ladder.stages import STAGES, Stage

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(path.read_text() for path in DOCS)
README = (ROOT / "README.md").read_text()
HEADINGS = [
    "The problem",
    "What this stage adds",
    "Read these files in this order",
    "Break it",
    "What still breaks",
]
UNDOING = {"start", "unpause"}
FAULT_HEADINGS = ["What we do", "What you see", "Why", "How to heal"]


def targets() -> set[str]:
    """The commands of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_command_is_in_the_docs_and_in_the_help() -> None:
    said = subprocess.run(["make", "--silent"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in targets() - {"help"}:
        assert re.search(rf"\bmake {target}\b", TEXT), f"make {target} isn't in the docs"
        assert re.search(rf"\bmake {target}\b", said), f"make {target} isn't in the help"


def test_the_docs_name_no_command_that_is_not_there() -> None:
    for used in set(re.findall(r"(?:`|^\$ |^)make ([a-z-]+)", TEXT, re.MULTILINE)):
        assert used in targets(), f"the docs say make {used}"


def test_every_value_is_in_the_docs() -> None:
    for name in settings.read(settings.DEFAULTS):
        assert name in TEXT, name


@pytest.mark.parametrize("verb", [verb for verb in FAULTS if verb not in UNDOING])
def test_every_fault_has_its_page_with_the_same_headings(verb: str) -> None:
    page = (ROOT / f"docs/faults/{verb}.md").read_text()
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == FAULT_HEADINGS
    assert f"$ make {verb}" in page, "no transcript"
    assert f"docs/faults/{verb}.md" in README


def test_every_page_is_of_a_fault() -> None:
    assert {page.stem for page in (ROOT / "docs/faults").glob("*.md")} == {*FAULTS} - UNDOING


def test_every_option_of_a_fault_is_on_its_page() -> None:
    for verb, fault in FAULTS.items():
        assert not fault.option or f"`{fault.option}=" in (ROOT / f"docs/faults/{verb}.md").read_text(), verb


def test_the_promises_in_the_docs_are_those_of_the_table() -> None:
    assert (ROOT / "docs/promises.md").read_text() == promises.page(), "write it again: make scoreboard does"


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.profile)
def test_every_stage_has_its_page_with_the_same_headings(stage: Stage) -> None:
    page = ROOT / f"docs/stages/{stage.number}-{stage.title}.md"
    assert re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE) == HEADINGS
    assert f"docs/stages/{page.name}" in README


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"


def test_files_that_the_docs_and_headers_point_to_exist() -> None:
    named = re.compile(r"`((?:app|compose|nginx|haproxy|mysql|dns|firewall|prometheus|ladder|tests|docs)/[\w./-]+)`")
    for page in DOCS:
        for path in named.findall(page.read_text()):
            assert (ROOT / path).exists(), f"{page.relative_to(ROOT)} names {path}"


def test_no_host_of_a_registry_or_mirror_is_named() -> None:
    """They come from each machine's own configuration."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    hosts = re.compile(r"\b(?:deb|security|snapshot)\.debian\.org|pypi\.org|pythonhosted\.org|docker\.io\b|ghcr\.io")
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix in {".png", ".svg"} or path == ROOT / "tests/config/test_docs.py" or not path.is_file():
            continue
        assert not hosts.search(path.read_text(errors="replace")), name


def test_the_budget_of_timeouts_is_what_the_files_say() -> None:
    """docs/timeouts.md is the one page; the configuration files hold the same figures."""
    page = (ROOT / "docs/timeouts.md").read_text()
    haproxy = (ROOT / "haproxy/haproxy.cfg").read_text()
    nginx = (ROOT / "nginx/nginx.conf").read_text()
    for name in ("http-request", "http-keep-alive", "client", "connect", "server", "check"):
        (value,) = set(re.findall(rf"^\s*timeout {name} (\w+)", haproxy, re.MULTILINE))
        assert re.search(rf"`timeout {name}`[^\n]*\b{value[:-1]} {value[-1]}\b", page), f"timeout {name} {value}"
    for name in ("proxy_connect_timeout", "proxy_read_timeout", "client_header_timeout", "client_body_timeout"):
        value = re.findall(rf"^\s*{name} (\w+);", nginx, re.MULTILINE)[0]
        assert re.search(rf"`{name}`[^\n]*\b{value[:-1]} {value[-1]}\b", page), f"{name} {value}"
