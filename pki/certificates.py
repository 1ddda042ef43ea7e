"""An authority of one machine's own and the site's certificate, as X.509 has them (RFC 5280).

Takes and gives PEM, and touches no file: ladder/certificates.py keeps them. Read next: ../haproxy/haproxy.cfg.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_network
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NAMES = ("www.foobar.com", "foobar.com")
"""What the site's certificate is for."""
ROOT_DAYS = 3650
LEAF_DAYS = 30
"""Short-lived: who gets hold of the key has it for a month, and renewing is exercised."""
SKEW = timedelta(hours=1)
"""A certificate is valid from a little before it is made, for clocks that are late."""


@dataclass(frozen=True)
class Pair:
    """A certificate, with those that lead to its authority if there are any, and its key; all PEM."""

    chain: bytes
    key: bytes

    @cached_property
    def certificates(self) -> list[x509.Certificate]:
        """The certificate itself first. Raises ValueError if it is no PEM."""
        return x509.load_pem_x509_certificates(self.chain)

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate itself."""
        return self.certificates[0]

    def private_key(self) -> Key:
        """The key. Raises ValueError if it is none of a kind that browsers take, TypeError if a passphrase locks it."""
        try:
            key = serialization.load_pem_private_key(self.key, password=None)
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from error
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
            return key
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1)):
            return key
        raise ValueError(type(key))

    def alone(self) -> "Pair":
        """The same without what else stood in the files: another key, or words."""
        return Pair(
            b"".join(each.public_bytes(serialization.Encoding.PEM) for each in self.certificates),
            _pem(self.private_key()),
        )


def make_root(now: datetime) -> Pair:
    """A new authority.

    It can vouch for servers of foobar.com and its subdomains and for nothing else (RFC 5280, 4.2.1.10, 4.2.1.12): who
    trusts it gives nobody a way to pose as any other site, or to sign mail or programs, whatever becomes of its key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"www.foobar.com live, root of {now:%Y-%m-%d %H:%M}")])
    addresses = [x509.IPAddress(ip_network(network)) for network in ("0.0.0.0/0", "::/0")]
    only = x509.NameConstraints(permitted_subtrees=[x509.DNSName("foobar.com")], excluded_subtrees=addresses)
    made = (
        _begin(name, key, now, ROOT_DAYS)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(only, critical=True)
    )
    return _end(made, key, key)


def make_leaf(root: Pair, now: datetime) -> Pair:
    """A new certificate for the site, with a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAMES[0])])
    issuer = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    made = (
        _begin(name, key, now, LEAF_DAYS)
        .issuer_name(root.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in NAMES]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
    )
    return _end(made, key, root.private_key())


def troubles(pair: Pair, now: datetime, names: Sequence[str] = NAMES) -> list[str]:
    """Everything for which a browser would refuse this certificate, or HAProxy this key; none if it will do."""
    try:
        first, *_ = chain = pair.certificates
    except ValueError:
        return ["the certificate is no PEM file (-----BEGIN CERTIFICATE-----)"]
    found = []
    try:
        if pair.private_key().public_key() != first.public_key():
            found.append("the key is not that of the certificate")
    except TypeError:
        found.append("the key is locked by a passphrase, which nobody is there to type; take it off")
    except ValueError:
        found.append(
            "the key is no PEM file (-----BEGIN PRIVATE KEY-----) of an RSA key of 2048 bits or more, or an "
            "elliptic-curve key on P-256 or P-384"
        )
    except UnsupportedAlgorithm:
        found.append("the certificate is for a kind of key that browsers don't take")
    if now >= first.not_valid_after_utc:
        found.append(f"the certificate expired on {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < first.not_valid_before_utc:
        found.append(f"the certificate is valid from {first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on only")
    if missing := [name for name in names if not covers(names_of(first), name)]:
        found.append(
            f"the certificate is for {', '.join(names_of(first)) or 'no name'}, not for {' and '.join(missing)}"
        )
    for issued, issuer in pairwise(chain):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            found.append(
                "the certificates of the file don't follow one from the other: first the site's, then its issuer's"
            )
            break
    return found


def names_of(certificate: x509.Certificate) -> list[str]:
    """The DNS names that a certificate is for; its common name counts for nothing (RFC 9525)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def covers(given: Sequence[str], name: str) -> bool:
    """Whether one of these names is this one; an asterisk stands for the first label alone (RFC 9525, 6.3)."""
    return any(each.lower() in (name, f"*.{name.partition('.')[2]}") for each in given)


def days_left(certificate: x509.Certificate, now: datetime) -> float:
    """Until the certificate expires."""
    return (certificate.not_valid_after_utc - now) / timedelta(days=1)


def spki_sha256(certificate: x509.Certificate) -> bytes:
    """The digest of its public key, by which a browser can be told to accept it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    digest = hashes.Hash(hashes.SHA256())
    digest.update(certificate.public_key().public_bytes(serialization.Encoding.DER, form))
    return digest.finalize()


def _begin(name: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int) -> x509.CertificateBuilder:
    begin = now.astimezone(UTC).replace(microsecond=0) - SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _end(made: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signer: Key) -> Pair:
    certificate = made.sign(signer, hashes.SHA256())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def _pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    kinds = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{kind: allowed.get(kind, False) for kind in kinds})
