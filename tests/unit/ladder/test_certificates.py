"""The files of the certificate: made once, kept, replaced in time, refused when damaged."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest

from ladder import browser, certificates, door, settings, trust
from ladder.errors import UserError
from ladder.stages import stage_of
from pki.certificates import Pair, make_leaf, make_root

DEFAULTS = settings.check(settings.read(settings.DEFAULTS), "stage2")
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ROOT_KEY", "ROOT_CERTIFICATE", "SITE", "TRUSTED", "LOADED"):
        monkeypatch.setattr(certificates, name, tmp_path / getattr(certificates, name).name)
    return tmp_path


def kept() -> Pair:
    found = certificates.site()
    assert found
    return found


def test_the_first_time_everything_is_made_and_then_nothing(folder: Path) -> None:
    assert len(certificates.ensure(DEFAULTS)) == 2
    first = kept()
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "ca.key": 0o600,
        "ca.crt": 0o444,
        "site.pem": 0o600,
        "trusted.crt": 0o644,
    }
    assert certificates.ensure(DEFAULTS) == []
    assert kept() == first


def test_checking_makes_nothing(folder: Path) -> None:
    certificates.check(DEFAULTS)
    assert list(folder.iterdir()) == []
    certificates.ensure(DEFAULTS)
    before = kept()
    certificates.SITE.unlink()
    certificates.check(users(folder, before))
    certificates.check(DEFAULTS)
    assert not certificates.SITE.exists()


@pytest.mark.parametrize("age", [21, 31])
def test_what_ends_soon_is_renewed_by_the_same_authority(age: int) -> None:
    certificates.ensure(DEFAULTS)
    old = make_leaf(certificates.authority(), NOW - timedelta(days=age))
    certificates.SITE.unlink()
    certificates.SITE.write_bytes(old.chain + old.key)
    root = certificates.authority()
    assert certificates.ensure(DEFAULTS) == ["made a certificate for www.foobar.com and foobar.com"]
    assert kept() != old
    assert certificates.authority() == root


@pytest.mark.parametrize("content", [b"", b"half a certi", make_leaf(make_root(NOW), NOW).chain])
def test_a_damaged_certificate_is_made_anew(content: bytes) -> None:
    certificates.ensure(DEFAULTS)
    certificates.SITE.unlink()
    certificates.SITE.write_bytes(content)
    assert certificates.ensure(DEFAULTS)
    kept()


def test_one_of_another_authority_is_replaced() -> None:
    certificates.ensure(DEFAULTS)
    other = make_leaf(make_root(NOW), NOW)
    certificates.SITE.unlink()
    certificates.SITE.write_bytes(other.chain + other.key)
    assert certificates.ensure(DEFAULTS)
    assert kept() != other


@pytest.mark.parametrize("damage", ["lost key", "lost certificate", "another's key", "nonsense", "expired"])
def test_a_damaged_authority_is_never_replaced_behind_ones_back(damage: str) -> None:
    """Somebody trusts it."""
    certificates.ensure(DEFAULTS)
    other = make_root(NOW - timedelta(days=4000))
    damaged: dict[str, dict[Path, bytes | None]] = {
        "lost key": {certificates.ROOT_KEY: None},
        "lost certificate": {certificates.ROOT_CERTIFICATE: None},
        "another's key": {certificates.ROOT_KEY: other.key},
        "nonsense": {certificates.ROOT_CERTIFICATE: b"nonsense"},
        "expired": {certificates.ROOT_KEY: other.key, certificates.ROOT_CERTIFICATE: other.chain},
    }
    for path, content in damaged[damage].items():
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    for wanted in (certificates.check, certificates.ensure):
        with pytest.raises(UserError, match="Put the old ones back, or begin with a new authority"):
            wanted(DEFAULTS)


def users(folder: Path, pair: Pair) -> settings.Settings:
    (folder / "mine.crt").write_bytes(pair.chain)
    (folder / "mine.key").write_bytes(pair.key)
    given = {"TLS_CERTIFICATE": str(folder / "mine.crt"), "TLS_KEY": str(folder / "mine.key")}
    return settings.check(settings.read(settings.DEFAULTS) | given, "stage2")


def test_the_users_own_takes_the_place_of_ours_and_leaves_it(folder: Path) -> None:
    certificates.ensure(DEFAULTS)
    root = make_root(NOW)
    mine = make_leaf(root, NOW)
    both = users(folder, Pair(mine.chain + root.chain, mine.key))
    assert "took your certificate" in certificates.ensure(both)[0]
    assert certificates.ensure(both) == []
    assert kept().certificate == mine.certificate
    assert certificates.TRUSTED.read_bytes() == mine.chain + root.chain
    assert certificates.ensure(DEFAULTS)
    assert certificates.TRUSTED.read_bytes() == certificates.ROOT_CERTIFICATE.read_bytes()
    assert kept().certificate != mine.certificate


def test_a_users_file_with_the_key_beside_the_certificate_gives_the_key_to_nobody_else(folder: Path) -> None:
    """As HAProxy itself would have it."""
    certificates.ensure(DEFAULTS)
    mine = make_leaf(make_root(NOW), NOW)
    both = users(folder, Pair(mine.chain + mine.key, mine.chain + mine.key))
    assert "took your certificate" in certificates.ensure(both)[0]
    assert certificates.ensure(both) == []
    assert certificates.TRUSTED.read_bytes() == mine.chain
    assert kept() == mine


def test_what_is_to_be_trusted_is_made_again(folder: Path) -> None:
    certificates.ensure(DEFAULTS)
    certificates.TRUSTED.write_bytes(make_root(NOW).chain)
    assert certificates.ensure(DEFAULTS)
    assert certificates.TRUSTED.read_bytes() == certificates.ROOT_CERTIFICATE.read_bytes()


def test_a_balancer_that_could_not_take_a_new_one_is_named_and_the_other_has_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next `make up` brings it again."""
    certificates.ensure(DEFAULTS)
    status, done = {"lb1": "paused", "lb2": "running"}, []
    monkeypatch.setattr(
        certificates, "containers", lambda _: {node: Mock(id=node, status=status[node]) for node in status}
    )
    monkeypatch.setattr(
        "subprocess.run",
        lambda command, **_: done.append(command) or Mock(returncode=0),  # type: ignore[func-returns-value]
    )
    with pytest.raises(UserError, match="lb1 is frozen, and has the old certificate") as error:
        certificates.load(DEFAULTS, stage_of("3"))
    assert "lb2 serves the new certificate" in str(error.value)
    assert len(done) == 1
    assert not certificates.loaded()
    status["lb1"] = "exited"
    certificates.load(DEFAULTS, stage_of("3"))
    assert certificates.loaded()
    certificates.SITE.write_bytes(b"another")
    assert not certificates.loaded()


def test_a_users_own_that_will_not_do_is_refused_with_every_reason(folder: Path) -> None:
    certificates.ensure(DEFAULTS)
    before = kept()
    bad = users(folder, make_root(NOW - timedelta(days=4000)))
    with pytest.raises(UserError, match="expired on"):
        certificates.check(bad)
    with pytest.raises(UserError) as refused:
        certificates.ensure(bad)
    assert "expired on" in str(refused.value)
    assert "not for www.foobar.com and foobar.com" in str(refused.value)
    assert "nothing was changed" in str(refused.value)
    assert kept() == before


def test_a_certificate_without_its_key_is_refused_with_the_other_values(folder: Path) -> None:
    given = settings.read(settings.DEFAULTS) | {"TLS_CERTIFICATE": "no/such/file", "HTTPS_PORT": "80"}
    with pytest.raises(UserError) as refused:
        settings.check(given, "")
    assert "TLS_CERTIFICATE='no/such/file': the path of a file" in str(refused.value)
    assert "HTTP_PORT and HTTPS_PORT: two doors can't share a port" in str(refused.value)
    assert "TLS_CERTIFICATE and TLS_KEY: both or neither" in str(refused.value)


def test_the_browser_is_told_of_this_one_certificate_and_remembers_nothing_of_http() -> None:
    certificates.ensure(DEFAULTS)
    command = browser.command("chromium", DEFAULTS, root=False)
    assert f"--ignore-certificate-errors-spki-list={certificates.pin()}" in command
    assert command[-1] == "https://www.foobar.com/"
    plain = settings.check(settings.read(settings.DEFAULTS), "stage1")
    other = browser.command("chromium", plain, root=False)
    assert not any("spki" in word for word in other)
    assert next(word for word in command if "user-data-dir" in word) not in other


@pytest.mark.parametrize(
    ("port", "site"), [("443", "https://www.foobar.com/"), ("8443", "https://www.foobar.com:8443/")]
)
def test_the_address_has_the_port_only_where_it_must(port: str, site: str) -> None:
    given = settings.read(settings.DEFAULTS) | {"HTTPS_PORT": port}
    assert door.site(settings.check(given, "stage2")) == site
    assert door.site(settings.check(given, "stage1")) == "http://www.foobar.com/"


def test_the_system_trusts_the_authority_and_then_no_more(folder: Path) -> None:
    certificates.ensure(DEFAULTS)
    store = folder / "store"
    store.mkdir()
    stores = (trust.Store(store, "true"), trust.Store(folder / "absent", "true"))
    said = list(trust.change(undo=False, stores=stores, nss=folder / "no-nss"))
    (only,) = store.iterdir()
    assert only.read_bytes() == certificates.ROOT_CERTIFICATE.read_bytes()
    assert said == [f"is trusted by the programs of this system ({only}, true)"]
    assert list(trust.change(undo=True, stores=stores, nss=folder / "no-nss"))
    assert list(store.iterdir()) == []
    assert "was not trusted" in "".join(trust.change(undo=True, stores=stores, nss=folder / "no-nss"))


def test_each_system_has_its_command() -> None:
    certificates.ensure(DEFAULTS)
    said = "\n".join(trust.by_hand(undo=False))
    for system in ("macOS", "Windows", "Debian, Ubuntu", "Fedora", "Firefox", "curl"):
        assert system in said
    assert str(certificates.ROOT_CERTIFICATE) in said
