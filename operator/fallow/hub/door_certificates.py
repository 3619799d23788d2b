"""The certificates of the hub's door: an authority of its own, which invites pin, and a server's under it.

Both live in one Secret, made by whichever replica comes first. A hub admin who has a certificate already sets
three paths instead (`join.certificate`, `join.private-key`, `join.authority`), and nothing here is used.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fallow.hub.placements import JSON

AUTHORITY_LIFETIME = timedelta(days=3650)
"""Long: every agent has pinned it, and only an invite brings a new one."""
SERVER_LIFETIME = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Authority and server, certificates and keys as PEM."""

    authority: bytes
    authority_key: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def of_secret(cls, secret: JSON) -> Pairs:
        """Read them from a Secret. Raises KeyError or ValueError when something is missing."""
        data = secret["data"]
        names = ("ca.crt", "ca.key", "tls.crt", "tls.key")
        return cls(*(base64.b64decode(data[name], validate=True) for name in names))

    def data(self) -> dict[str, str]:
        """Return a Secret's data."""
        parts = {
            "ca.crt": self.authority,
            "ca.key": self.authority_key,
            "tls.crt": self.certificate,
            "tls.key": self.key,
        }
        return {name: base64.b64encode(part).decode("ascii") for name, part in parts.items()}

    def serves(self, host: str, *, now: datetime) -> bool:
        """Return whether the server's certificate is for `host` and lasts for a while."""
        found = x509.load_pem_x509_certificate(self.certificate)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return _general_name(host) in names and found.not_valid_after_utc - now > RENEW_BEFORE


def new_pairs(host: str, *, now: datetime) -> Pairs:
    """Make an authority and a certificate for `host` (a name or an address)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("fallow hub")
    certificate = (
        _builder(name, name, key, now=now, lifetime=AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs_certificates(), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, authority_key = _pem(certificate), _key_pem(key)
    return _served(authority, authority_key, host, now=now)


def renewed(pairs: Pairs, host: str, *, now: datetime) -> Pairs:
    """Make a new certificate for `host` under the same authority."""
    return _served(pairs.authority, pairs.authority_key, host, now=now)


def _served(authority: bytes, authority_key: bytes, host: str, *, now: datetime) -> Pairs:
    issuer = x509.load_pem_x509_certificate(authority)
    signing = serialization.load_pem_private_key(authority_key, password=None)
    if not isinstance(signing, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not an elliptic curve's")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name("fallow join"), issuer.subject, key, now=now, lifetime=SERVER_LIFETIME)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .sign(signing, hashes.SHA256())
    )
    return Pairs(authority, authority_key, _pem(certificate), _key_pem(key))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signs_certificates() -> x509.KeyUsage:
    off = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **off)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
