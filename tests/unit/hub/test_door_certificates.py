"""The door's certificates: what a TLS client that pins the authority believes, and when they are renewed."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fallow.hub.door_certificates import RENEW_BEFORE, SERVER_LIFETIME, Pairs, new_pairs, renewed

NOW = datetime.now(UTC)  # as a TLS library compares with the machine's clock


def shaken(pairs: Pairs, *, pinned: bytes, host: str) -> None:
    """Shake hands in memory. Raises SSLCertVerificationError."""
    client, server = (
        ssl.create_default_context(cadata=pinned.decode()),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
    )
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = Path(directory, "crt"), Path(directory, "key")
        certificate.write_bytes(pairs.certificate)
        key.write_bytes(pairs.key)
        server.load_cert_chain(certificate, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("host", ["127.0.0.1", "join.hub.example", "::1"])
def test_certificate__for_its_host_under_the_pinned_authority__is_believed(host: str) -> None:
    pairs = new_pairs(host, now=NOW)
    shaken(pairs, pinned=pairs.authority, host=host)


@pytest.mark.parametrize("wrong", ["authority", "host"])
def test_certificate__of_another_authority_or_host__is_not_believed(wrong: str) -> None:
    pairs = new_pairs("join.hub.example", now=NOW)
    other = new_pairs("join.hub.example", now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(
            pairs,
            pinned=other.authority if wrong == "authority" else pairs.authority,
            host="other.example" if wrong == "host" else "join.hub.example",
        )


def test_certificate__renewed__is_believed_by_whoever_pinned_the_authority() -> None:
    pairs = new_pairs("join.hub.example", now=NOW)
    again = renewed(pairs, "other.example", now=NOW)
    assert again.authority == pairs.authority
    assert again.certificate != pairs.certificate
    shaken(again, pinned=pairs.authority, host="other.example")


def test_certificate__near_its_end_or_for_another_host__is_due() -> None:
    pairs = new_pairs("join.hub.example", now=NOW)
    assert pairs.serves("join.hub.example", now=NOW)
    assert not pairs.serves("other.example", now=NOW)
    assert not pairs.serves("join.hub.example", now=NOW + SERVER_LIFETIME - RENEW_BEFORE + timedelta(hours=1))


def test_pairs__through_a_secret__stay_what_they_are() -> None:
    pairs = new_pairs("join.hub.example", now=NOW)
    assert Pairs.of_secret({"data": pairs.data()}) == pairs
