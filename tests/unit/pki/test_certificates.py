"""What the authority and its certificates say, and what is found wrong with those that somebody brings."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from pki.certificates import NAMES, Key, Pair, covers, days_left, make_leaf, make_root, troubles

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ROOT = make_root(NOW)
LEAF = make_leaf(ROOT, NOW)


def verified(name: str, leaf: Pair, root: Pair = ROOT, at: datetime = NOW) -> None:
    """Raise VerificationError unless who trusts the root would accept the leaf for the name."""
    builder = PolicyBuilder().store(Store([root.certificate])).time(at)
    builder.build_server_verifier(x509.DNSName(name)).verify(leaf.certificate, [])


@pytest.mark.parametrize("name", NAMES)
def test_who_trusts_the_root_accepts_the_site(name: str) -> None:
    verified(name, LEAF)


def test_for_another_name_or_by_another_root_or_too_late_nobody_does() -> None:
    for name, root, at in (
        ("foobar.org", ROOT, NOW),
        (NAMES[0], make_root(NOW), NOW),
        (NAMES[0], ROOT, NOW + timedelta(days=31)),
    ):
        with pytest.raises(VerificationError):
            verified(name, LEAF, root, at)


def test_the_root_can_vouch_for_nothing_but_foobar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever steals its key gains no other site."""
    monkeypatch.setattr("pki.certificates.NAMES", ("www.example.org",))
    with pytest.raises(VerificationError):
        verified("www.example.org", make_leaf(ROOT, NOW))


def test_the_site_lasts_a_month() -> None:
    assert 29 < days_left(LEAF.certificate, NOW) <= 30


def test_every_certificate_has_a_key_of_its_own() -> None:
    assert LEAF.key != make_leaf(ROOT, NOW).key


NO_LOCK = serialization.NoEncryption()


def form(key: Key, lock: serialization.KeySerializationEncryption = NO_LOCK) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def locked(pair: Pair) -> bytes:
    return form(pair.private_key(), serialization.BestAvailableEncryption(b"passphrase"))


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (Pair(b"", LEAF.key), "the certificate is no PEM file"),
        (Pair(b"nonsense", LEAF.key), "the certificate is no PEM file"),
        (Pair(LEAF.key, LEAF.key), "the certificate is no PEM file"),
        (Pair(LEAF.chain, b""), "the key is no PEM file"),
        (Pair(LEAF.chain, LEAF.chain), "the key is no PEM file"),
        (Pair(LEAF.chain, form(rsa.generate_private_key(65537, 1024))), "an RSA key of 2048 bits or more"),
        (Pair(LEAF.chain, form(ec.generate_private_key(ec.SECP256K1()))), "on P-256 or P-384"),
        (Pair(LEAF.chain, locked(LEAF)), "locked by a passphrase"),
        (Pair(LEAF.chain, ROOT.key), "the key is not that of the certificate"),
        (make_leaf(ROOT, NOW - timedelta(days=31)), "expired on 2026-11-20 11:00 UTC"),
        (make_leaf(ROOT, NOW + timedelta(days=1)), "valid from 2026-11-22 11:00 UTC on only"),
        (ROOT, "for no name, not for www.foobar.com and foobar.com"),
        (Pair(LEAF.chain + make_root(NOW).chain, LEAF.key), "don't follow one from the other"),
        (Pair(ROOT.chain + LEAF.chain, ROOT.key), "don't follow one from the other"),
    ],
)
def test_what_will_not_do(pair: Pair, said: str) -> None:
    assert said in "; ".join(troubles(pair, NOW))


@pytest.mark.parametrize("pair", [LEAF, Pair(LEAF.chain + ROOT.chain, LEAF.key), Pair(LEAF.chain, b"\n" + LEAF.key)])
def test_what_will_do(pair: Pair) -> None:
    assert troubles(pair, NOW) == []


@pytest.mark.parametrize(
    ("given", "name", "does"),
    [
        (["www.foobar.com"], "www.foobar.com", True),
        (["WWW.foobar.com"], "www.foobar.com", True),
        (["*.foobar.com"], "www.foobar.com", True),
        (["*.foobar.com"], "foobar.com", False),
        (["foobar.com"], "www.foobar.com", False),
        (["*.com"], "www.foobar.com", False),
        ([], "foobar.com", False),
    ],
)
def test_names_are_covered_as_browsers_see_it(given: list[str], name: str, does: bool) -> None:
    assert covers(given, name) is does
