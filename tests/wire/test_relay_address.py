"""cli.md, the first five minutes: a relay's address is one line that people paste."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.errors import ConfigError
from meshsync.ids import DeviceId
from meshsync.wire.relay_address import RelayAddress, parse_relay_address

DEVICE, SECRET = DeviceId(bytes(range(32))), bytes(range(100, 116))
GOLDEN = {
    "quic://relay.example:4433": RelayAddress("relay.example", 4433),
    "quic://[2001:db8::7]:1": RelayAddress("2001:db8::7", 1),
    "quic://192.0.2.7:65535#000g40r40m30e209185gr38e1w8124gk2gahc5rr34d1p70x3rfk9144wr": RelayAddress(
        "192.0.2.7", 65535, DEVICE
    ),
    "quic://h:4433#000g40r40m30e209185gr38e1w8124gk2gahc5rr34d1p70x3rfp8sb6cxm6jtkbdhppwvvge5s76tx0mh70": RelayAddress(
        "h", 4433, DEVICE, SECRET
    ),
}


@pytest.mark.parametrize(("text", "address"), GOLDEN.items())
def test_golden(text: str, address: RelayAddress):
    assert parse_relay_address(text) == address
    assert address.text == text
    assert parse_relay_address(f" {text}\n") == address


@given(st.ip_addresses().map(str), st.integers(1, 65535), st.binary(min_size=32, max_size=32), st.booleans())
def test_every_address_survives(host: str, port: int, device: bytes, invited: bool):
    address = RelayAddress(host, port, DeviceId(device), SECRET if invited else None)
    assert parse_relay_address(address.text) == address


def test_names_are_read_in_any_case():
    assert parse_relay_address("quic://Relay.EXAMPLE:4433").host == "relay.example"


LONGEST = max(GOLDEN, key=len)
BAD = {
    "nothing": "",
    "another scheme": "https://relay.example:4433",
    "no port": "quic://relay.example",
    "port 0": "quic://relay.example:0",
    "port 65536": "quic://relay.example:65536",
    "a signed port": "quic://relay.example:+1",
    "no host": "quic://:4433",
    "a path": "quic://relay.example:4433/x",
    "a user": "quic://me@relay.example:4433",
    "IPv6 without brackets": "quic://2001:db8::7:4433",
    "IPv6 with a zone": "quic://[fe80::1%eth0]:4433",
    "a name in brackets": "quic://[relay]:4433",
    "an IPv4 address out of range": "quic://192.0.2.256:4433",
    "an octal IPv4 address": "quic://192.0.02.7:4433",
    "an endless name": f"quic://{'a' * 300}:4433",
    "a name with a control character": "quic://re\x1blay:4433",
    "an empty token": "quic://relay.example:4433#",
    "a token cut off": LONGEST[:-1],
    "a token in upper case": LONGEST.upper().replace("QUIC", "quic"),
    "two tokens": LONGEST + "#" + LONGEST.partition("#")[2],
    "two lines": LONGEST + "\n" + LONGEST,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_anything_else_is_told_to_the_user(text: str):
    with pytest.raises(ConfigError) as caught:
        parse_relay_address(text)
    assert caught.value.next_step


def test_every_mistyped_token_character_is_noticed():
    start = LONGEST.index("#") + 1
    for at in range(start, len(LONGEST)):
        for character in "0z":
            if LONGEST[at] != character:
                with pytest.raises(ConfigError):
                    parse_relay_address(LONGEST[:at] + character + LONGEST[at + 1 :])


@given(st.text(max_size=60))
def test_any_text_is_a_typed_error(text: str):
    with pytest.raises(ConfigError):
        parse_relay_address("quic://#" + text)


def test_the_invitation_is_shown_only_on_purpose():
    address = RelayAddress("h", 1, DEVICE, SECRET)
    assert repr(SECRET) not in repr(address)
    assert address.without_secret().secret is None and address.address == "h:1"
