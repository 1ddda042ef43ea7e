"""Grafana's boards: what they ask is emitted, what they say is there; and what is wrong is said before it is shown."""

import configparser
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ladder import boards, marks
from ladder.errors import UserError
from ladder.settings import ROOT, Settings
from ladder.stages import Stage
from tests.config.test_docs import targets as commands
from tests.config.test_monitoring import RECORDED, RULES, emitted, known
from tests.stack import file_with

FOLDER = ROOT / "grafana"
SOURCE = {"type": "prometheus", "uid": "collector"}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every board as Grafana reads it, by the name of its file."""
    folder = tmp_path_factory.mktemp("boards")
    boards.write(folder)
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """All but the headings of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_there_is_a_board_for_each_question(found: dict[str, Any]) -> None:
    assert set(found) == {"glance", "balancer", "servers", "databases", "firewalls"}
    assert {name: board["uid"] for name, board in found.items()} == {name: name for name in found}


def test_boards_ask_only_for_what_some_server_emits_or_a_rule_works_out(found: dict[str, Any]) -> None:
    names = {rule["record"] for rule in RULES}
    for board in found.values():
        for panel in panels(board):
            for target in panel.get("targets", []):
                question = target["expr"]
                assert emitted(question) or RECORDED.search(question) or "ALERTS{" in question, question
                assert emitted(question) <= known(), panel["title"]
                assert set(RECORDED.findall(question)) <= names, panel["title"]
                # Who asked whom is not to be guessed from a number: it is so on one stage, and not on the next.
                assert "label_replace" not in question, panel["title"]
                # It always fires, and nothing is wrong.
                assert "ALERTS{" not in question or 'alertname!="Watchdog"' in question


def test_every_panel_says_what_it_means_and_has_its_place(found: dict[str, Any]) -> None:
    for board in found.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in panels(board):
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]
            assert panel["description"].endswith((".", "`")), panel["title"]
            assert panel["datasource"] == SOURCE
            letters = [target["refId"] for target in panel["targets"]]
            assert letters == sorted(set(letters)), panel["title"]
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_the_commands_that_move_a_panel_are_there(found: dict[str, Any]) -> None:
    said = "\n".join(panel.get("description", "") for board in found.values() for panel in panels(board))
    named = set(re.findall(r"`make ([a-z-]+)", said))
    assert len(named) > 5
    assert named <= commands()


def test_every_board_shows_what_the_workbench_did(found: dict[str, Any]) -> None:
    for board in found.values():
        (annotation,) = board["annotations"]["list"]
        assert annotation["enable"]
        assert annotation["expr"] == annotation["target"]["expr"]
        assert marks.FAMILY in annotation["expr"]
        assert annotation["datasource"] == SOURCE
        assert annotation["useValueForTime"] is True
        assert board["refresh"] == "5s"
        assert board["editable"] is False


def test_the_source_of_figures_is_the_one_that_boards_name() -> None:
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/collector.yaml").read_text())["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/boards.yaml").read_text())["providers"]
    assert provider["type"] == "file"
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert f"COPY {boards.FOLDER.relative_to(ROOT)} {provider['options']['path']}\n" in dockerfile
    home = settings_of_grafana()["dashboards"]["default_home_dashboard_path"]
    assert home == f"{provider['options']['path']}/glance.json"


def settings_of_grafana() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((FOLDER / "grafana.ini").read_text())
    return parser


def test_whoever_looks_is_a_viewer_and_nobody_can_log_in() -> None:
    ini = settings_of_grafana()
    assert ini["auth.anonymous"]["enabled"] == "true"
    assert ini["auth.anonymous"]["org_role"] == "Viewer"
    assert ini["auth"]["disable_login_form"] == "true"
    assert ini["auth.basic"]["enabled"] == "false"
    assert ini["security"]["disable_initial_admin_creation"] == "true"


def test_grafana_writes_only_to_memory() -> None:
    assert all(ini.startswith("/run/") for key, ini in settings_of_grafana()["paths"].items() if key != "provisioning")


@contextmanager
def board_with(old: str, new: str) -> Iterator[None]:
    """The first board with something else in it, for a moment; and what it was written as."""
    try:
        with file_with(FOLDER / "boards/glance.py", old, new):
            yield
    finally:
        boards.write()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"glance",', "glnce,", "NameError: name 'glnce' is not defined"),
        ('"glance",', '"glance"(', "SyntaxError: "),
        ('"glance",', '"balancer",', "two boards have the same uid"),
        ('unit="percentunit",\n            top=1,', 'unit="percentunit",\n            bottom=1,', "TypeError: "),
    ],
)
def test_a_board_that_is_wrong_is_said_in_a_sentence(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "before.json").touch()
    with board_with(old, new), pytest.raises(UserError) as refused:
        boards.write(tmp_path)
    assert "the boards can't be built; nothing was changed: grafana/boards/" in str(refused.value)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["before.json"]


def test_a_question_that_is_none_is_said_in_a_sentence(built: Stage, values: Settings) -> None:
    boards.write()
    boards.check(values)
    with board_with('("probe_success", "site")', '("probe_success{", "site")'):
        boards.write()
        with pytest.raises(UserError) as refused:
            boards.check(values)
    assert "asks what the collector can't read; nothing was changed:" in str(refused.value)
    assert "\n  glance asks probe_success{: could not parse expression:" in str(refused.value)
