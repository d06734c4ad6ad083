"""Hashes, device keys and signatures. Spec: docs/spec/crypto.md 1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nacl.bindings import crypto_scalarmult_base

from meshsync.crypto.hashing import blob_id, derive, digest, keyed
from meshsync.crypto.identity import DeviceKeys
from meshsync.crypto.signing import message, sign, verify
from meshsync.errors import ConfigError, SignatureInvalid
from meshsync.ids import DeviceId

SEED = bytes(range(64))
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "crypto.json").read_text())


def test_hashes_are_those_of_the_specification() -> None:
    hashes = {
        "digest": digest("entry", b"abc"),
        "blob_id": blob_id(b"abc"),
        "keyed": keyed(b"k" * 32, b"abc"),
        "derive": derive(b"k" * 32, b"purpose", b"salt"),
    }
    assert {name: value.hex() for name, value in hashes.items()} == VECTORS["hashes"]


def test_device_keys_are_those_of_the_specification() -> None:
    device = DeviceKeys(SEED)
    assert device.device.hex() == VECTORS["device"]["device"]
    assert device.box_public.hex() == VECTORS["device"]["box_public"]
    assert device.sign("entry", b"abc").hex() == VECTORS["device"]["signature"]
    assert device.box_public == crypto_scalarmult_base(device.box_secret)
    assert SEED[:8].hex() not in repr(device)


def test_signed_bytes_name_their_domain() -> None:
    assert message("entry", b"abc") == b"meshsync/1/entry\0abc"


def test_a_signature_holds_for_one_device_kind_and_text() -> None:
    device, other = DeviceKeys(SEED), DeviceKeys(bytes(64))
    signature = sign(SEED[:32], "entry", b"abc")
    verify(device.device, "entry", b"abc", signature)
    refused = [
        (other.device, "entry", b"abc", signature),
        (device.device, "head", b"abc", signature),
        (device.device, "entry", b"abd", signature),
        (device.device, "entry", b"abc", signature[:-1] + bytes([signature[-1] ^ 1])),
        (device.device, "entry", b"abc", b""),
        (DeviceId(b"short"), "entry", b"abc", signature),
    ]
    for device_id, kind, data, claimed in refused:
        with pytest.raises(SignatureInvalid):
            verify(device_id, kind, data, claimed)


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_a_seed_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ConfigError):
        DeviceKeys(bytes(size))
