"""What a failed build is said to be, from BuildKit's plain output as it was seen."""

import pytest

from ladder import images

ALERTS = """\
#14 [prometheus 4/5] COPY prometheus/agent-edge-entrypoint /usr/local/bin/
#14 DONE 0.0s

#15 [prometheus 5/5] RUN promtool check config /etc/prometheus/collector.yml     && for file in …
#15 0.219 Checking /etc/prometheus/collector.yml
#15 0.221   SUCCESS: 2 rule files found
#15 0.221
#15 0.225 Checking /etc/prometheus/alerts.yml
#15 0.227   FAILED:
#15 0.228 /etc/prometheus/alerts.yml: 11:15: group "visitors", rule 1, "SiteDown": could not parse: unexpected "="
#15 0.229
#15 0.230 Checking /etc/prometheus/rules.yml
#15 0.231   SUCCESS: 24 rules found
#15 ERROR: executor failed running [/bin/sh -c promtool check config /etc/prometheus/collector.yml …]: exit code: 1
------
 > [prometheus 5/5] RUN promtool check config /etc/prometheus/collector.yml …:
0.227   FAILED:
0.228 /etc/prometheus/alerts.yml: 11:15: group "visitors", rule 1, "SiteDown": could not parse: unexpected "="
------
"""
AGENT = """\
#15 0.304  SUCCESS: /etc/prometheus/agent-edge.yml is valid prometheus config file syntax
#15 0.336 Checking /etc/prometheus/agent-web.yml
#15 0.337   FAILED: parsing YAML file /etc/prometheus/agent-web.yml: yaml: unmarshal errors:
#15 0.337   line 7: field scrape_intervall not found in type config.plain
#15 0.337
#15 ERROR: process "/bin/sh -c promtool check config /etc/prometheus/collector.yml …" did not complete successfully
"""
ALERTMANAGER = """\
#16 0.189 Checking '/etc/alertmanager/alertmanager.yml'amtool: error: failed to validate 1 file(s)
#16 0.190
#16 0.190   FAILED: yaml: unmarshal errors:
#16 0.190   line 6: field rute not found in type config.plain
#16 0.190
#16 ERROR: executor failed running [/bin/sh -c amtool check-config /etc/alertmanager/alertmanager.yml]: exit code: 1
"""
BLACKBOX = r"""
#13 0.234 time=2026-11-28T17:50:37.147Z level=INFO source=config.go:137 msg="Configuration file change detected."
#13 0.235 time=… level=ERROR err="yaml: unmarshal errors:\n  line 5: field x"
#13 ERROR: executor failed running [blackbox_exporter --config.file=/etc/prometheus/blackbox.yml]: exit code: 1
"""


@pytest.mark.parametrize(
    ("output", "file", "why"),
    [
        (ALERTS, "alerts", '11:15: group "visitors", rule 1, "SiteDown": could not parse: unexpected "="'),
        (AGENT, "agent-web", "yaml: unmarshal errors: line 7: field scrape_intervall not found in type config.plain"),
        (ALERTMANAGER, "alertmanager", "yaml: unmarshal errors: line 6: field rute not found in type config.plain"),
        (BLACKBOX, "blackbox", "yaml: unmarshal errors: line 5: field x"),
    ],
    ids=["alerts", "agent", "alertmanager", "blackbox"],
)
def test_a_file_that_its_own_checker_refuses_is_named_in_a_sentence(output: str, file: str, why: str) -> None:
    assert images.complaint(output) == f"prometheus/{file}.yml is wrong; nothing was changed: {why}"


@pytest.mark.parametrize(
    "output",
    [
        "",
        "failed to solve: failed to fetch",
        "#9 1.2 E: Unable to locate package tini\n#9 ERROR: executor failed running [/bin/sh -c apt-get update]",
        "#9 1.2   FAILED: 3 tests\n#9 ERROR: executor failed running [/bin/sh -c make]",
        ALERTS.replace("#15 ERROR", "#15 DONE"),
    ],
)
def test_another_failure_is_left_as_it_is(output: str) -> None:
    assert images.complaint(output) == ""
