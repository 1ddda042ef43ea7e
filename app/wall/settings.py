"""What the application has to be told, read once from the environment and the secret files.

Everything wrong is named in one go, so that nobody mends one value to learn about the next.
compose/ sets these; the README's table of values and tests/unit/app/test_settings.py follow.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECRETS_DIR = "/run/secrets"


class SettingsError(ValueError):
    """One or more values are missing or bad; the message lists all of them."""


@dataclass(frozen=True)
class Settings:
    """The settings of one app server. Times are seconds; passwords never show in a repr."""

    db_nodes: tuple[str, ...]
    app_password: str = field(repr=False)
    monitoring_password: str = field(repr=False)
    session_key: str = field(repr=False)
    db_port: int = 3306
    db_name: str = "foobar"
    db_max_lag: int = 5
    server_name: str = "app"
    version: str = "1"
    cookie_secure: bool = False
    workers: int = 2
    threads: int = 8


@dataclass(frozen=True)
class MigrationSettings:
    """What the migration job needs: the nodes, and a user that may change the schema."""

    db_nodes: tuple[str, ...]
    password: str = field(repr=False)
    db_port: int = 3306
    db_name: str = "foobar"


class _Reader:
    """Reads values one by one and remembers every complaint until `check`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.complaints: list[str] = []

    def nodes(self) -> tuple[str, ...]:
        names = tuple(self.environ.get("DB_NODES", "").split())
        if not names:
            self.complaints.append('DB_NODES is missing; name the database nodes, as in "db1 db2"')
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name):
                self.complaints.append(f"DB_NODES: {name!r} is not a host name")
        if len(set(names)) != len(names):
            self.complaints.append("DB_NODES names a node twice")
        return names

    def number(self, name: str, default: int, low: int, high: int) -> int:
        text = self.environ.get(name) or str(default)
        if re.fullmatch(r"[0-9]{1,9}", text) and low <= int(text) <= high:
            return int(text)
        self.complaints.append(f"{name} is {text!r}; it must be a number from {low} to {high}")
        return default

    def flag(self, name: str) -> bool:
        text = self.environ.get(name) or "false"
        if text not in ("true", "false"):
            self.complaints.append(f"{name} is {text!r}; it must be true or false")
        return text == "true"

    def word(self, name: str, default: str) -> str:
        text = self.environ.get(name) or default
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
            self.complaints.append(f"{name} is {text!r}; letters, digits, '.', '-', '_' only")
        return text

    def secret(self, name: str, shortest: int = 1) -> str:
        path = Path(self.environ.get("SECRETS_DIR") or SECRETS_DIR) / name
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            self.complaints.append(f"secret {path} cannot be read: {reason}")
            return ""
        if len(text) < shortest:
            self.complaints.append(
                f"secret {path} is empty" if not text else f"secret {path} is too short: at least {shortest} characters"
            )
        return text

    def check(self) -> None:
        if self.complaints:
            raise SettingsError("cannot start:\n  " + "\n  ".join(self.complaints))


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """The web application's settings. Raises SettingsError naming everything wrong at once."""
    reader = _Reader(environ)
    settings = Settings(
        db_nodes=reader.nodes(),
        app_password=reader.secret("mysql_app_password"),
        monitoring_password=reader.secret("mysql_monitoring_password"),
        session_key=reader.secret("app_session_key", shortest=32),
        db_max_lag=reader.number("DB_MAX_LAG_SECONDS", 5, 0, 3600),
        server_name=socket.gethostname(),
        version=reader.word("APP_VERSION", "1"),
        cookie_secure=reader.flag("COOKIE_SECURE"),
        workers=reader.number("GUNICORN_WORKERS", 2, 1, 16),
        threads=reader.number("GUNICORN_THREADS", 8, 1, 64),
    )
    reader.check()
    return settings


def read_migration_settings(environ: Mapping[str, str] = os.environ) -> MigrationSettings:
    """The migration job's settings. Raises SettingsError naming everything wrong at once."""
    reader = _Reader(environ)
    settings = MigrationSettings(
        db_nodes=reader.nodes(),
        password=reader.secret("mysql_migration_password"),
    )
    reader.check()
    return settings
