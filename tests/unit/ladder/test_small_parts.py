"""The pure parts of the workbench: names, versions, readings, commands."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from docker.models.containers import Container

from ladder import bench, browser, debian, doctor, engine, images, lock, replication, rungs, settings
from ladder.errors import UserError
from ladder.stages import SERVERS, STAGES, ZONES, stage_of
from ladder.wait import wait_until

DEFAULTS = settings.read(settings.DEFAULTS)
DOCKERFILES = [*settings.ROOT.glob("*/Dockerfile"), *settings.ROOT.glob("*/*/Dockerfile")]


@pytest.mark.parametrize("value", ["1", "stage1"])
def test_a_stage_is_known_by_number_and_by_profile(value: str) -> None:
    assert stage_of(value).number == 1


@pytest.mark.parametrize("value", ["", "5", "one", "stage", "-1", "1 ", "[red]"])
def test_an_unknown_stage_is_answered_with_the_known_ones(value: str) -> None:
    with pytest.raises(UserError, match=r"0 \(simple\), 1 \(distributed\)"):
        stage_of(value)


def test_climbing_adds_and_never_renames() -> None:
    for lower, higher in itertools.pairwise(STAGES):
        assert set(lower.nodes) <= set(higher.nodes)


def test_every_node_has_a_zone_and_every_server_its_three_nodes() -> None:
    assert {node for stage in STAGES for node in stage.nodes} == set(ZONES)
    for members in SERVERS.values():
        assert [ZONES[node] for node in members] == ["web", "web", "data"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Docker Compose version 2.40.3-3", (2, 40, 3)),
        ("Docker Compose version v2.24.0", (2, 24, 0)),
        ("github.com/docker/buildx 0.29.1+ds1 0.29.1+ds1-4", (0, 29, 1)),
        ("20.10.24+dfsg1", (20, 10, 24)),
        ("docker: 'compose' is not a docker command", ()),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert doctor.version_of(text) == version


def test_the_browser_maps_both_names_and_shows_the_port() -> None:
    found = settings.check(DEFAULTS | {"HTTP_PORT": "8080"}, "")
    command = browser.command("chromium", found, root=False)
    assert "--host-resolver-rules=MAP www.foobar.com 127.0.0.1, MAP foobar.com 127.0.0.1" in command
    assert command[-1] == "http://www.foobar.com:8080/"
    assert "--no-sandbox" not in command
    assert "--no-sandbox" in browser.command("chromium", found, root=True)


def test_a_replica_is_read_from_its_own_answer() -> None:
    answer = """\
*************************** 1. row ***************************
@@super_read_only: 1
 @@gtid_executed: 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,
4f22fa47-71ca-11e1-9e33-c80aa9429562:1-7
*************************** 1. row ***************************
             Replica_IO_State: Connecting to source
                  Source_Host: db1
           Replica_IO_Running: Connecting
          Replica_SQL_Running: Yes
        Seconds_Behind_Source: NULL
                Last_IO_Error: Error connecting to source 'replication@db1:3306'. Message: no such host
               Last_SQL_Error:
"""
    found = replication.parse(answer)
    assert found.role == "replica"
    assert (found.source, found.receiving, found.applying, found.seconds_behind) == ("db1", False, True, None)
    assert found.gtids == "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,4f22fa47-71ca-11e1-9e33-c80aa9429562:1-7"
    assert found.trouble == "Error connecting to source 'replication@db1:3306'. Message: no such host"


def test_a_writable_node_is_the_primary_and_a_closed_one_without_source_waits() -> None:
    assert replication.parse("@@super_read_only: 0\n@@gtid_executed: \n").role == "primary"
    assert replication.parse("@@super_read_only: 1\n@@gtid_executed: \n").role == "waiting"


def test_a_build_step_is_told_once_and_only_if_it_runs() -> None:
    news = images.News()
    lines = [
        "#5 [app1 2/8] RUN apt-get update     && apt-get install",
        "#6 [base 3/4] RUN cached",
        "#6 CACHED",
        "#5 0.312 Get:1 …",
        "#5 [app1 2/8] RUN apt-get update     && apt-get install",
        "#5 0.502 Get:2 …",
        "#7 [dns internal] load build definition",
    ]
    assert [step for line in lines if (step := news.of(line))] == ["app1 2/8: RUN apt-get update && apt-get install"]


def test_the_base_images_are_found_in_the_dockerfiles() -> None:
    found = images.base_images(DOCKERFILES)
    assert {image for image in found if image.startswith("debian:")} == {"debian:trixie-slim", "debian:sid-slim"}
    # Where no registry answers, Debian's packages have to do for every other one.
    assert {image.partition(":")[0] for image in found} - {"debian"} == set(debian.PROGRAMS)
    assert not any(image.endswith(":latest") for image in found)


@pytest.mark.parametrize(
    ("output", "mend"),
    [
        ("write /var/x: no space left on device", "docker system prune"),
        ("listen tcp4 127.0.0.1:80: bind: address already in use", "HTTP_PORT=8080"),
        ("Bind for 127.0.0.1:80 failed: port is already allocated", "HTTP_PORT=8080"),
        ("invalid pool request: Pool overlaps with other one on this address space", "SUBNET_PREFIX=10.81"),
    ],
)
def test_what_docker_says_is_given_its_mend(output: str, mend: str) -> None:
    assert mend in engine.explain("docker compose up", output)


def test_a_bench_round_with_errors_gives_no_figure() -> None:
    assert bench.parse("Requests/sec:    412.33\nTransfer/sec: 1MB", "u") == pytest.approx(412.33)
    with pytest.raises(UserError, match="no figure"):
        bench.parse("Non-2xx or 3xx responses: 3\nRequests/sec:    412.33", "u")
    with pytest.raises(UserError, match="could not be asked"):
        bench.parse("unable to connect to app1:8000", "u")


def test_waiting_ends_with_the_condition_or_says_what_for() -> None:
    answers = iter([None, "", "there"])
    assert wait_until(lambda: next(answers), within=5, what="x", every=0) == "there"
    with pytest.raises(UserError, match=r"not within 0 s: the moon is full\.\nlook up"):
        wait_until(lambda: False, within=0, what="the moon is full", hint=lambda: "look up")


def test_a_rungs_difference_names_what_comes_and_what_is_wired_otherwise() -> None:
    old = {"web1": {"image": "i", "environment": {"A": "1"}}}
    new = {
        "web1": {"image": "i", "environment": {"A": "2"}},
        "web2": {"image": "i", "environment": {"A": "3"}},
        "lb1": {"image": "j", "networks": {"edge": None}},
    }
    assert list(rungs._compare("services", old, new)) == [
        "+ services.web2  like web1, but\n      environment.A: 3",
        "+ services.lb1\n      networks: edge",
        "~ services.web1.environment.A: 1 → 2",
    ]


def test_what_changes_alike_is_said_once() -> None:
    old = {name: {"environment": {"A": "1", "B": "1"}} for name in ("web1", "app1", "db1")}
    new = {name: {"environment": {"A": "2", "B": "1" if name == "db1" else "2"}} for name in old}
    assert list(rungs._compare("services", old, new)) == [
        "~ services.*.environment.A: 1 → 2",
        "~ services.web1,app1.environment.B: 1 → 2",
    ]


def test_the_tests_lock_is_bound_to_what_the_image_has() -> None:
    assert "--constraint=app/requirements.txt" in lock.command("tests")
    assert "--generate-hashes" in lock.command("app")


def test_a_container_that_freezes_while_it_is_asked_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert engine.exec_in(cast("Container", SimpleNamespace(id="a")), ["true"], timeout=0.1) is None
