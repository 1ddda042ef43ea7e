"""Secrets are made once, closed to others, and never replaced."""

import stat
from pathlib import Path

import pytest

from ladder import credentials
from ladder.errors import UserError


def test_all_are_made_each_another_in_a_closed_folder(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert credentials.ensure(folder) == list(credentials.NAMES)
    texts = [(folder / name).read_text() for name in credentials.NAMES]
    assert len(set(texts)) == len(credentials.NAMES)
    # MySQL cuts a longer replication password off, and then refuses it.
    assert all(len(text) == 32 for text in texts)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_there_stays_and_what_is_missing_comes(tmp_path: Path) -> None:
    credentials.ensure(tmp_path)
    first, second = (tmp_path / name for name in credentials.NAMES[:2])
    kept = first.read_text()
    assert credentials.ensure(tmp_path) == []
    second.unlink()
    assert credentials.ensure(tmp_path) == [second.name], "servers that have the old one are to be made anew"
    assert first.read_text() == kept
    assert second.exists()


@pytest.mark.parametrize("damage", [b"", b"short", b"two lines of\ntext that is long", b"\xff" * 40, b"\n"])
def test_a_damaged_one_is_named_with_its_mend_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    credentials.ensure(tmp_path)
    path = tmp_path / "mysql_app_password"
    path.chmod(0o600)
    path.write_bytes(damage)
    with pytest.raises(UserError, match=r"secrets/mysql_app_password is damaged.*make wipe"):
        credentials.ensure(tmp_path)
    assert path.read_bytes() == damage


def test_the_hosts_authorities_are_passed_on_by_its_environment_or_by_its_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, system = tmp_path / "ca.pem", tmp_path / "ca-certificates.crt"
    monkeypatch.setattr(credentials, "CA_OF_THE_SYSTEM", system)
    for name in credentials.CA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert credentials.host_authorities() == ""
    system.write_text("the system's")
    assert credentials.host_authorities() == "the system's"
    bundle.write_text("certificates")
    monkeypatch.setenv("PIP_CERT", str(bundle))
    assert credentials.host_authorities() == "certificates"
