"""What the user set, read once and checked as a whole.

The defaults stand in .env.example, which Compose reads as well; .env has precedence over them and the environment
over both, as in Compose.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import dotenv

from ladder.errors import UserError
from ladder.stages import MOST_SERVERS

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS = ROOT / ".env.example"
STAGE_FILES = ROOT / "compose/stages"
STAGE_KEY = "COMPOSE_PROFILES"
EVERYWHERE = "0.0.0.0"  # noqa: S104 -- a value to compare with, not one that we bind


@dataclass(frozen=True)
class Settings:
    """Every value of .env.example, and the stage in force."""

    http_port: int
    https_port: int
    bind_address: str
    dns_port: int
    prometheus_port: int
    grafana_port: int
    subnet_prefix: str
    project: str
    lb_algorithm: str
    lb_mode: str
    lb_cluster: str
    edge_new_connections: int
    tls_certificate: str
    """The file of the user's own certificate, or "" for one that we make."""
    tls_key: str
    db_max_lag_seconds: int
    app_workers: int
    app_threads: int
    web_servers: int
    app_servers: int
    profile: str
    """The stage's Compose profile, or "" as long as no stage was chosen."""
    raw: Mapping[str, str]
    """The same values by their names in .env.example."""

    @property
    def address(self) -> str:
        """Where this machine reaches what is published."""
        return "127.0.0.1" if self.bind_address == EVERYWHERE else self.bind_address

    @property
    def left_out(self) -> tuple[str, ...]:
        """The nodes of a stage that can't be had on this machine (boards.py)."""
        return ("grafana",) if self.raw["GRAFANA_LEFT_OUT"] else ()

    def scratch(self, name: str) -> Path:
        """A file of the workbench's own for this stack, such as a lock or a log."""
        folder = ROOT / ".ladder"
        folder.mkdir(exist_ok=True)
        return folder / f"{self.project}.{name}"

    def environment(self, profile: str | None = None) -> dict[str, str]:
        """The environment for a Compose command that speaks of the given stage (default: the one in force).

        A stage's own wiring is not for the environment to change: FIREWALL=off would be a stage 2 that isn't one.
        """
        wiring = {key for path in STAGE_FILES.glob("*.env") for key in read(path)}
        given = {key: value for key, value in os.environ.items() if key not in wiring}
        return given | dict(self.raw) | {STAGE_KEY: profile or self.profile}


def env_file() -> Path:
    """The file of the user's values: .env, or what Compose's own COMPOSE_ENV_FILES names."""
    return ROOT / os.environ.get("COMPOSE_ENV_FILES", ".env")


def read(path: Path) -> dict[str, str]:
    """The values of an env file; none when it isn't there."""
    return {key: value or "" for key, value in dotenv.dotenv_values(path).items()}


def load() -> Settings:
    """Read and check all values.

    Raises:
        UserError: names every value that is not right, with what would be.
    """
    given = read(env_file()) | dict(os.environ)
    raw = {key: given.get(key, default) for key, default in read(DEFAULTS).items()}
    return check(raw, given.get(STAGE_KEY, ""))


def check(raw: Mapping[str, str], profile: str) -> Settings:
    """Turn text into settings, or say of all values at once what is wrong with them."""
    wrong = [
        f"  {name}={'…' if rule.secret else repr(raw[name])}: {rule.words}"
        for name, rule in RULES.items()
        if not rule.fits(raw[name])
    ]
    for one, other in combinations(("HTTP_PORT", "HTTPS_PORT", "DNS_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"), 2):
        if raw[one] == raw[other]:
            wrong.append(f"  {one} and {other}: two doors can't share a port")
    if bool(raw["TLS_CERTIFICATE"]) != bool(raw["TLS_KEY"]):
        wrong.append("  TLS_CERTIFICATE and TLS_KEY: both or neither; a certificate is of no use without its key")
    if wrong:
        raise UserError(
            "these values are not right:\n"
            + "\n".join(wrong)
            + "\nSet them in .env or before the command, for example: make up STAGE=1 HTTP_PORT=8080"
        )
    return Settings(
        http_port=int(raw["HTTP_PORT"]),
        https_port=int(raw["HTTPS_PORT"]),
        bind_address=raw["BIND_ADDRESS"],
        dns_port=int(raw["DNS_PORT"]),
        prometheus_port=int(raw["PROMETHEUS_PORT"]),
        grafana_port=int(raw["GRAFANA_PORT"]),
        subnet_prefix=raw["SUBNET_PREFIX"],
        project=raw["COMPOSE_PROJECT_NAME"],
        lb_algorithm=raw["LB_ALGORITHM"],
        lb_mode=raw["LB_MODE"],
        lb_cluster=raw["LB_CLUSTER"],
        edge_new_connections=int(raw["EDGE_NEW_CONNECTIONS"]),
        tls_certificate=raw["TLS_CERTIFICATE"],
        tls_key=raw["TLS_KEY"],
        db_max_lag_seconds=int(raw["DB_MAX_LAG_SECONDS"]),
        app_workers=int(raw["APP_WORKERS"]),
        app_threads=int(raw["APP_THREADS"]),
        web_servers=int(raw["WEB_SERVERS"]),
        app_servers=int(raw["APP_SERVERS"]),
        profile=profile,
        raw=dict(raw),
    )


def keep(settings: Settings, profile: str) -> None:
    """Write the stage, and every value that isn't the default, to .env: `docker compose ps` shall speak of the same."""
    path = env_file()
    path.touch()
    path.chmod(0o600)  # a URL of the user's may hold a token
    defaults, present = read(DEFAULTS), read(path)
    for key, value in {**settings.raw, STAGE_KEY: profile}.items():
        if present.get(key, defaults.get(key)) != value:
            dotenv.set_key(path, key, value, quote_mode="never")


@dataclass(frozen=True)
class Rule:
    """What a value must be, as a test and in words."""

    fits: Callable[[str], bool]
    words: str
    secret: bool = False
    """It may be one: never shown."""


def _number(low: int, high: int) -> Rule:
    return Rule(
        lambda text: text.isascii() and text.isdigit() and low <= int(text) <= high,
        f"a whole number from {low} to {high}",
    )


def _one_of(*allowed: str) -> Rule:
    return Rule(lambda text: text in allowed, "one of " + ", ".join(allowed))


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_private_prefix(text: str) -> bool:
    return _is_ipv4(f"{text}.0.0") and text.count(".") == 1 and ipaddress.IPv4Network(f"{text}.0.0/16").is_private


_FILE = Rule(
    lambda text: not text or (ROOT / text).is_file(), "the path of a file, from here or absolute; empty for our own"
)
_URL = Rule(
    lambda text: (
        re.fullmatch(r"(https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9/._~%?=&+-]*)?)?", text) is not None
    ),
    "a receiver's URL without user and password, such as https://metrics.example.com/api/v1/write; or nothing",
    secret=True,
)
_RECEIVER = Rule(
    lambda text: not text or _is_ipv4(text.rpartition(":")[2]), "name:address, written by make up; or nothing"
)
_PORT = Rule(lambda text: not text or _number(1, 65535).fits(text), "written by make up; or nothing")
RULES: dict[str, Rule] = {
    "HTTP_PORT": _number(1, 65535),
    "HTTPS_PORT": _number(1, 65535),
    "BIND_ADDRESS": Rule(_is_ipv4, "an IPv4 address of this machine, such as 127.0.0.1"),
    "DNS_PORT": _number(1, 65535),
    "PROMETHEUS_PORT": _number(1, 65535),
    "GRAFANA_PORT": _number(1, 65535),
    "GRAFANA_LEFT_OUT": _one_of("", "without-"),
    "REMOTE_WRITE_URL": _URL,
    "REMOTE_WRITE_PASSWORD_FILE": Rule(lambda text: True, "the path of a file, from here or absolute; or nothing"),
    "REMOTE_WRITE_USER": Rule(
        lambda text: re.fullmatch(r"[A-Za-z0-9@._+-]{0,100}", text) is not None,
        "letters, digits, @ . _ + -; or nothing",
    ),
    "REMOTE_WRITE_RECEIVER": _RECEIVER,
    "REMOTE_WRITE_PORT": _PORT,
    "ALERT_WEBHOOK_URL": _URL,
    "ALERT_WEBHOOK_RECEIVER": _RECEIVER,
    "ALERT_WEBHOOK_PORT": _PORT,
    "SUBNET_PREFIX": Rule(_is_private_prefix, "two octets of a private network, such as 10.80 or 172.30"),
    "COMPOSE_PROJECT_NAME": Rule(
        lambda text: re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", text) is not None,
        "up to 40 small letters, digits, - and _, beginning with a letter or digit",
    ),
    "LB_ALGORITHM": _one_of("roundrobin", "leastconn", "source"),
    "LB_MODE": _one_of("active-active", "active-passive"),
    "LB_CLUSTER": _one_of("active-passive", "active-active"),
    "LB_REQUESTS": _number(10, 10_000_000),
    "EDGE_NEW_CONNECTIONS": _number(1, 100_000),
    "TLS_CERTIFICATE": _FILE,
    "TLS_KEY": _FILE,
    "DB_WITHOUT_REPLICA": _one_of("go-on", "wait"),
    "DB_MAX_LAG_SECONDS": _number(0, 3600),
    "APP_WORKERS": _number(1, 32),
    "APP_THREADS": _number(1, 64),
    "WEB_SERVERS": _number(1, MOST_SERVERS),
    "APP_SERVERS": _number(1, MOST_SERVERS),
    "MORE_SERVERS": Rule(
        lambda text: re.fullmatch(r"(\.ladder/[a-z0-9_-]+\.more\.yaml)?", text) is not None,
        "the path of a file, written by make scale; or nothing",
    ),
}
