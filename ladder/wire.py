"""What passes at a server, as anybody reads it who sits on its wire."""

import subprocess
from collections.abc import Callable

from docker.models.containers import Container

from ladder.packets import HELPED, HELPER
from ladder.settings import Settings

CARRIES = "tcp and ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 0"
"""Packets that bring something, and not only say that something came."""


def watch(settings: Settings, container: Container, say: Callable[[str], None]) -> None:
    """Say what passes, as text, until interrupted. A helper reads it in the server's network namespace."""
    # A container does not end with the client that started it; its input does.
    script = f"tcpdump -i any -n -q -t -A -l -s 0 -Z root '{CARRIES}' & cat >/dev/null; kill $!"
    words = ["docker", "run", "--rm", "--interactive", f"--network=container:{container.id}", "--read-only"]
    words += ["--cap-drop=ALL", "--cap-add=NET_RAW", "--security-opt=no-new-privileges:true", "--memory=64m"]
    words += [f"--label={HELPER}={settings.project}"]
    words += [f"--label={HELPED}={container.labels['com.docker.compose.service']}"]
    words += ["--entrypoint=tini", f"{settings.project}/edge", "--", "sh", "-c", script]
    # In a group of its own: Ctrl-C is for us, and we end it.
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        for line in process.stdout:
            say("".join(letter if letter.isprintable() else "." for letter in line.rstrip("\n")))
    finally:
        process.stdin.close()
        process.wait()
