"""The monitoring's files against each other, against the table of what each server emits, and against promtool."""

import io
import re
import subprocess
import tarfile
from typing import Any

import pytest
import yaml

from ladder import alerts, metrics
from ladder.settings import ROOT, Settings
from ladder.stages import BALANCERS, MONITORING, STAGES, Stage
from prometheus import pager
from tests.config.test_checkers import in_image

FOLDER = ROOT / "prometheus"
CONFIGS = {
    **{f"agent-{zone}": yaml.safe_load((FOLDER / f"agent-{zone}.yml").read_text()) for zone in ("edge", "web", "data")},
    "prometheus": yaml.safe_load((FOLDER / "collector.yml").read_text()),
}
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
FAMILY = re.compile(r"\b(?:up|(?:haproxy|nsd|probe|nginx|wall|mysql|node|process|prometheus|firewall|lb)_\w+)\b")
RECORDED = re.compile(r"\b\w+:\w+:\w+\b")


def known() -> set[str]:
    sources = {family for source in metrics.SOURCES.values() for family in source.families}
    more = set(metrics.REPLICA) | set(metrics.SEMI_SYNC) | set(metrics.PAIR)
    return sources | more | set(metrics.EVERY_SERVER)


def emitted(expression: str) -> set[str]:
    return set(FAMILY.findall(RECORDED.sub("", re.sub(r'"[^"]*"', '""', expression))))


def test_rules_ask_only_for_what_some_server_emits() -> None:
    for rule in RULES:
        assert emitted(rule["expr"]) or RECORDED.search(rule["expr"]), rule
        assert emitted(rule["expr"]) <= known(), rule["record"]


def test_alerts_ask_only_for_what_some_server_emits_or_a_rule_works_out() -> None:
    names = {rule["record"] for rule in RULES}
    for alert in ALERTS:
        assert emitted(alert["expr"]) <= known(), alert["alert"]
        assert set(RECORDED.findall(alert["expr"])) <= names, alert["alert"]
        tests = (FOLDER / "tests/alerts.yml").read_text()
        if alert["alert"] != pager.WATCHDOG:
            assert f"{{alertname: {alert['alert']}," in tests, "silence"
        assert f"- alertname: {alert['alert']}\n" in tests, "firing"


def test_only_the_pager_is_told_that_all_is_well_and_nobody_counts_it_as_wrong() -> None:
    """A webhook of the user's is added at the end of the file, to the last receiver: the one that all else goes to."""
    alertmanager = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    (route,) = alertmanager["route"]["routes"]
    assert route["matchers"] == [f'alertname = "{pager.WATCHDOG}"']
    first, last = alertmanager["receivers"]
    assert (first["name"], last["name"]) == (route["receiver"], alertmanager["route"]["receiver"])
    assert [config["url"] for config in first["webhook_configs"]] == [f"http://pager:{pager.PORT}/"]
    assert f'alertname!="{pager.WATCHDOG}"' in alerts.FIRING


def test_the_pager_hears_often_enough_of_a_healthy_collector(rendered: dict[int, Any]) -> None:
    """And within a minute not of a dead one: what Alertmanager has heard last, it passes on at its next turn or the one
    after.
    """
    command = rendered[STAGES[-1].number]["services"]["prometheus"]["command"]
    (resend,) = (int(word.partition("=")[2][:-1]) for word in command if word.startswith("--rules.alert.resend-delay="))
    alertmanager = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())["route"]
    turn, repeat = int(alertmanager["group_interval"][:-1]), int(alertmanager["routes"][0]["repeat_interval"][:-1])
    assert resend + repeat + turn < pager.SILENCE
    assert repeat + turn + pager.SILENCE < 60


def test_nginx_is_full_where_its_configuration_says_so() -> None:
    """And not before a balancer is, of whose visitors each takes two connections."""
    (connections,) = re.findall(r"worker_connections (\d+);", (ROOT / "nginx/nginx.conf").read_text())
    (full,) = [rule["expr"] for rule in RULES if rule.get("labels") == {"layer": "web"} and "nginx" in rule["expr"]]
    assert full.endswith(f" / {connections}")
    visitors = re.search(
        r"^frontend visitors\n(?: +#.*\n)* +maxconn (\d+)$", (ROOT / "haproxy/haproxy.cfg").read_text(), re.M
    )
    assert visitors
    assert int(connections) > 2 * int(visitors[1])


def test_rules_build_only_on_rules_that_are_there() -> None:
    names = {rule["record"] for rule in RULES}
    for rule in RULES:
        assert set(RECORDED.findall(rule["expr"])) <= names, rule["record"]


def test_every_rule_is_named_by_level_metric_and_operation_and_has_a_hand_computed_value() -> None:
    tests = (FOLDER / "tests/rules.yml").read_text()
    for rule in RULES:
        assert RECORDED.fullmatch(rule["record"])
        assert rule["record"] in tests


def targets(config: dict[str, Any]) -> set[tuple[str, str]]:
    """(job, instance) of every target; those of nginx are behind one exporter."""
    found = set()
    for job in config["scrape_configs"]:
        if job["job_name"] in ("haproxy", "pair"):  # by the stage: agent-edge-entrypoint
            assert "static_configs" not in job
            found |= {(job["job_name"], balancer) for balancer in BALANCERS}
            continue
        # Named by agent-web-entrypoint, as many as there are to be: two, unless somebody asks for more.
        for group in job.get("static_configs", [{"targets": ["app1:8001", "app2:8001"]}]):
            for target in group["targets"]:
                host = target if "://" in target else target.partition(":")[0]
                found.add((job["job_name"], group.get("labels", {}).get("instance", host)))
    return found


@pytest.mark.parametrize("client", CONFIGS)
def test_each_client_asks_whom_the_table_says(client: str) -> None:
    wanted = {(source.job, name) for name, source in metrics.SOURCES.items() if source.client == client}
    if client == "agent-web":
        wanted = {pair for pair in wanted if pair[0] != "nginx"} | {("nginx", "nginx-exporter")}
    if client == "agent-edge":
        wanted |= {("pair", balancer) for balancer in BALANCERS}
    assert targets(CONFIGS[client]) == wanted


@pytest.mark.parametrize(
    ("stage", "asked"), [(2, {"balancers": ["lb1"]}), (3, {"balancers": ["lb1", "lb2"], "pair": ["lb1", "lb2"]})]
)
def test_the_balancers_of_the_stage_are_asked(
    built: Stage, values: Settings, rendered: dict[int, Any], stage: int, asked: dict[str, list[str]]
) -> None:
    value = rendered[stage]["services"]["agent-edge"]["environment"]["PAIR"]
    # The client itself says only its version.
    script = (
        "agent-edge-entrypoint --version >/dev/null 2>&1; cd /run; for f in *.yml; do echo ${f%.yml}: $(cat $f); done"
    )
    said = yaml.safe_load(in_image(values, "prometheus", "sh", "-c", script, PAIR=value))
    found = {name: [target.partition(":")[0] for target in groups[0]["targets"]] for name, groups in said.items()}
    assert found == asked


def test_the_table_is_of_every_server_of_the_stage() -> None:
    """The edge passes packets on and counts them in its firewall; exporters speak for others; logs counts nothing."""
    nodes = (
        set(STAGES[-1].nodes)
        - {"edge", "alertmanager", "pager", "grafana", "logs"}
        - {node for node in MONITORING if node.endswith("-exporter")}
    )
    assert nodes <= set(metrics.SOURCES)
    assert set(metrics.SOURCES) - nodes == {"machine", "https://www.foobar.com/"}


@pytest.mark.parametrize("client", CONFIGS)
def test_a_dead_server_is_seen_within_15_seconds(client: str) -> None:
    """Two scrapes and a second until they are brought."""
    scrape = CONFIGS[client]["global"]
    assert 2 * int(scrape["scrape_interval"][:-1]) + int(scrape["scrape_timeout"][:-1]) <= 15
    for receiver in CONFIGS[client].get("remote_write", []):
        assert receiver["queue_config"]["batch_send_deadline"] == "1s"


def test_the_docs_have_the_table() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == metrics.page(), (
        "write it: python -c 'from ladder import metrics …'"
    )


def test_who_watches_a_tier_is_told_how_many_there_are(rendered: dict[int, Any]) -> None:
    stage = STAGES[-1]
    for watcher, name, tier in (("nginx-exporter", "WEB_SERVERS", "web"), ("agent-web", "APP_SERVERS", "app")):
        told = rendered[stage.number]["services"][watcher]["environment"][name]
        assert int(told) == len(stage.of(tier))
        assert f"${name}" in (FOLDER / f"{watcher}-entrypoint").read_text()


def promtool(values: Settings, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run promtool on the files of the checkout, tests included, in the collector's image."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(FOLDER, "prometheus")
    words = ["docker", "run", "--rm", "--interactive", "--network=none", "--read-only", "--tmpfs=/tmp"]
    words += ["--entrypoint=sh", f"{values.project}/prometheus", "-c"]
    script = 'cd /tmp && tar --extract --no-same-owner && cd prometheus && exec promtool "$@"'
    return subprocess.run([*words, script, "sh", *command], input=archive.getvalue(), capture_output=True)


def test_the_rules_work_out_what_a_hand_does(built: Stage, values: Settings) -> None:
    done = promtool(values, "test", "rules", "tests/rules.yml", "tests/alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_every_file(built: Stage, values: Settings) -> None:
    for file in ("agent-edge", "agent-web", "agent-data"):
        in_image(values, "prometheus", "promtool", "check", "config", "--agent", f"/etc/prometheus/{file}.yml")
    in_image(values, "prometheus", "promtool", "check", "config", "--lint=all", "/etc/prometheus/collector.yml")


def test_promtool_refuses_what_is_wrong(built: Stage, values: Settings) -> None:
    done = promtool(values, "check", "config", "blackbox.yml")
    assert done.returncode != 0


def test_blackbox_exporter_accepts_its_configuration(built: Stage, values: Settings) -> None:
    file = "--config.file=/etc/prometheus/blackbox.yml"
    in_image(values, "blackbox-exporter", "blackbox_exporter", "--config.check", file)
