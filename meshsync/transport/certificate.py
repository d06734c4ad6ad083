"""The throw-away certificate of an endpoint.

Invariant: it says nothing about the device. Its only use is its hash, to which the proofs of `wire/session.py` bind
this channel, so it is made afresh at each start and never stored.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from meshsync.crypto.hashing import digest

SERVER_NAME = "meshsync"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed P-256 certificate and its key, PEM, and the 32-byte hash that proofs name."""

    certificate_pem: bytes
    key_pem: bytes
    hash: bytes


def certificate_hash(der: bytes) -> bytes:
    """Return the 32-byte hash of a certificate's DER bytes, as proofs name it."""
    return digest("link-certificate", der)


def make_certificate() -> Certificate:
    """Return a new certificate for `SERVER_NAME`, valid at any time: nobody checks its dates."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2099, 12, 31, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate_hash(certificate.public_bytes(serialization.Encoding.DER)),
    )
