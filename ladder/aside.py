"""A stack of its own beside the user's, for tests and the scoreboard: other name, ports and addresses."""

import hashlib
import os
import socket

from ladder import doctor, settings
from ladder.errors import UserError
from ladder.settings import DEFAULTS, ROOT, Settings, read


def values(purpose: str) -> dict[str, str]:
    """The environment of such a stack, which starts on the defaults and not on the user's own values.

    Raises:
        UserError: this machine has no addresses left for it.
    """
    project = f"foobar-{purpose}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
    env_file = ROOT / f".ladder/{purpose}.env"
    env_file.parent.mkdir(exist_ok=True)
    env_file.write_text("")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COMPOSE_")} | {
        "COMPOSE_PROJECT_NAME": project,
        "COMPOSE_ENV_FILES": str(env_file.relative_to(ROOT)),
        "HTTP_PORT": str(free_port()),
        "HTTPS_PORT": str(free_port(udp=True)),
        "DNS_PORT": str(free_port(udp=True)),
        "PROMETHEUS_PORT": str(free_port()),
        "GRAFANA_PORT": str(free_port()),
    }
    for number in range(90, 250):
        environment["SUBNET_PREFIX"] = f"10.{number}"
        if doctor.check_subnet(checked(environment)).ok:
            return environment
    raise UserError("no free addresses for another stack: every network from 10.90 to 10.249 is in use")


def checked(environment: dict[str, str]) -> Settings:
    """The settings that such an environment means, before a stage is chosen."""
    return settings.check({key: environment.get(key, value) for key, value in read(DEFAULTS).items()}, "")


def free_port(*, udp: bool = False) -> int:
    """A port that nobody has at the moment, for TCP and, if asked, UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            if not udp:
                return port
            try:
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
