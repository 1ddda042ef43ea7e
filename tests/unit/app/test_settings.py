"""Settings: read once, everything wrong named at once, secrets from files and never shown."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from wall.settings import SettingsError, read_migration_settings, read_settings

SECRETS = ("mysql_app_password", "mysql_monitoring_password", "mysql_migration_password")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    for name in SECRETS:
        (tmp_path / name).write_text(f"{name} value\n")
    (tmp_path / "app_session_key").write_text("k" * 32 + "\n")
    return {"DB_NODES": "db1 db2", "SECRETS_DIR": str(tmp_path)}


def test_good_values(environ: dict[str, str]) -> None:
    settings = read_settings({**environ, "DB_MAX_LAG_SECONDS": "9", "COOKIE_SECURE": "true"})
    assert settings.db_nodes == ("db1", "db2")
    assert settings.app_password == "mysql_app_password value"
    assert (settings.db_max_lag, settings.cookie_secure) == (9, True)
    assert settings.server_name == socket.gethostname()


def test_empty_values_mean_the_default(environ: dict[str, str]) -> None:
    settings = read_settings({**environ, "DB_MAX_LAG_SECONDS": "", "COOKIE_SECURE": ""})
    assert (settings.db_max_lag, settings.cookie_secure) == (5, False)


def test_everything_wrong_is_named_at_once(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mysql_app_password").unlink()
    (tmp_path / "app_session_key").write_text("short")
    bad = {"DB_NODES": "db1 db1 -x", "DB_MAX_LAG_SECONDS": "-1", "COOKIE_SECURE": "yes", "GUNICORN_WORKERS": "many"}
    with pytest.raises(SettingsError) as caught:
        read_settings({**environ, **bad})
    message = str(caught.value)
    for word in (
        "twice",
        "'-x'",
        "DB_MAX_LAG_SECONDS",
        "GUNICORN_WORKERS",
        "COOKIE_SECURE",
        "mysql_app_password",
        "app_session_key",
    ):
        assert word in message


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_broken_secret(environ: dict[str, str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mysql_monitoring_password").write_bytes(content)
    with pytest.raises(SettingsError, match="mysql_monitoring_password"):
        read_settings(environ)


def test_migration_needs_no_session_key(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "app_session_key").unlink()
    assert read_migration_settings(environ).password == "mysql_migration_password value"


def test_no_secret_in_repr(environ: dict[str, str]) -> None:
    assert "value" not in repr(read_settings(environ))
    assert "value" not in repr(read_migration_settings(environ))
