"""What a server's health check tells of its firewall: only servers tell, and not one that is merely tried."""

import subprocess

import pytest

from ladder.settings import ROOT, Settings
from ladder.stages import Stage

RULES = 'table inet firewall { chain input { counter packets 7 bytes 420 drop comment "came in"; }; }'
TOLD = 'firewall_dropped_packets_total{instance="web2",chain="input",reason="came in"} 7\n'


@pytest.mark.parametrize(
    ("environment", "told"),
    [({"FIREWALL": "on"}, TOLD), ({"FIREWALL": "on", "TRIAL": "yes"}, ""), ({"FIREWALL": "off"}, "")],
)
def test_a_server_tells_what_it_dropped_and_one_that_is_only_tried_does_not(
    built: Stage, values: Settings, environment: dict[str, str], told: str
) -> None:
    given = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    script = (
        f"echo '{RULES}' | nft --file - && firewall-count true && cat /var/lib/firewall/web2.prom 2>/dev/null; true"
    )
    command = ["docker", "run", "--rm", "--network=none", "--cap-drop=ALL", "--cap-add=NET_ADMIN", "--hostname=web2"]
    command += ["--tmpfs=/var/lib/firewall", *given, "--entrypoint=sh", f"{values.project}/edge", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (told, "")
