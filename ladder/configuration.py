"""The configuration of nginx and HAProxy, as it is in this checkout now, into every server that runs, by reload."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

from docker.models.containers import Container

from ladder.engine import containers
from ladder.errors import UserError
from ladder.settings import ROOT, Settings
from ladder.stages import Stage, kind

FILES = {"lb": ("haproxy/haproxy.cfg", "config-load"), "web": ("nginx/nginx.conf", "web-entrypoint")}
"""By kind of server: the file, and what in the server checks it and brings it in."""


def load(settings: Settings, stage: Stage) -> list[str]:
    """Have every balancer and every web server go over to the files; what was done, in words.

    Raises:
        UserError: one is wrong; nothing was changed then.
    """
    present = containers(settings)
    found = {
        name: [present[node] for node in stage.of(name) if node in present and present[node].status == "running"]
        for name in FILES
    }
    for name, servers in found.items():
        # One tells what all would say.
        if servers and (wrong := give(servers[0], "check")):
            raise UserError(f"{FILES[name][0]} is wrong; nothing was changed:\n{wrong}")
    done = []
    for name, servers in found.items():
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(lambda container: give(container, "reload"), servers))
        if wrong := "\n".join(filter(None, said)):
            raise UserError(f"not every server has gone over to {FILES[name][0]}:\n{wrong}")
        if servers:
            nodes = ", ".join(container.labels["com.docker.compose.service"] for container in servers)
            done.append(f"{nodes} {'has' if len(servers) == 1 else 'have'} gone over to {FILES[name][0]}")
    return done


def give(container: Container, verb: str) -> str:
    """What a server complains of when it is to check its configuration, or reload it; "" if all is well."""
    file, script = FILES[kind(container.labels["com.docker.compose.service"])]
    # What it has to say is for the server's own user to write.
    words = ["sh", "-c", 'chmod o+w /dev/stdout /dev/stderr; exec as-server "$@"', "sh", script, verb]
    command = ["docker", "exec", "--interactive", str(container.id), *words]
    try:
        content = (ROOT / file).read_bytes()
    except OSError as error:
        return str(error)
    done = subprocess.run(command, input=content, capture_output=True)
    said = (done.stderr + done.stdout).decode(errors="replace").strip()
    if not done.returncode:
        return ""
    said = said.replace("/run/nginx.conf.new", file).replace("/run/haproxy.cfg.new", file)
    return said or f"{script} ended with status {done.returncode}"
