"""What a node refuses to start with, and that it names everything at once and no password."""

from __future__ import annotations

from pathlib import Path

import pytest
from node.settings import ACCOUNTS, Settings, SettingsError, read_secret


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for account in ACCOUNTS:
        (tmp_path / f"mysql_{account}_password").write_text(f"pass-{account}\n")
    return tmp_path


def test_reads_all(secrets: Path) -> None:
    settings = Settings.read({"DB_NODES": "db1 db2"}, "db2", secrets)
    assert (settings.peers, settings.server_id) == (("db1",), 2)
    assert settings.passwords["app"] == "pass-app"
    assert "pass-app" not in repr(settings)


def test_server_id_of_any_name(secrets: Path) -> None:
    names = ("left", "right", "db10", "db20", "db1")
    env = {"DB_NODES": " ".join(names)}
    numbers = [Settings.read(env, name, secrets).server_id for name in names]
    assert len(set(numbers)) == len(names)
    assert all(0 < number < 2**32 for number in numbers)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ("", "DB_NODES is not set"),
        ("db1 db1", "twice"),
        ("db1 db_2", "'db_2' is not a host name"),
        ("db2 db3", "db1, is not in DB_NODES"),
    ],
)
def test_bad_nodes(secrets: Path, nodes: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.read({"DB_NODES": nodes}, "db1", secrets)


def test_how_writes_are_confirmed(secrets: Path) -> None:
    env = {"DB_NODES": "db1 db2"}
    found = Settings.read(env, "db1", secrets)
    assert (found.semi_sync, found.waits) == (False, False)
    found = Settings.read(env | {"SEMI_SYNC": "on", "DB_WITHOUT_REPLICA": "wait"}, "db1", secrets)
    assert (found.semi_sync, found.waits) == (True, True)
    with pytest.raises(SettingsError, match="DB_WITHOUT_REPLICA is 'maybe'; go-on or wait are known"):
        Settings.read(env | {"DB_WITHOUT_REPLICA": "maybe"}, "db1", secrets)


def test_all_faults_at_once(secrets: Path) -> None:
    (secrets / "mysql_app_password").unlink()
    (secrets / "mysql_monitoring_password").write_text("\n")
    with pytest.raises(SettingsError) as refused:
        Settings.read({}, "db1", secrets)
    for words in ("DB_NODES", "mysql_app_password is missing", "monitoring_password is empty"):
        assert words in str(refused.value)


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines\n", b"tab\there", b"\xff\xfe", b"\0"])
def test_broken_secret_is_named_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mysql_app_password"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        read_secret(file)
    assert "mysql_app_password" in str(refused.value)
    assert "lines" not in str(refused.value).removeprefix(f"secret {file}")


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    """Docker makes a folder where a mounted file is missing."""
    with pytest.raises(SettingsError, match="cannot be read"):
        read_secret(tmp_path)
