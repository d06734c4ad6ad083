"""The number that two people compare: the same on both devices, another for any other key."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsync.crypto.safety_number import fingerprint, safety_number
from meshsync.ids import DeviceId

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "safety_number.json").read_text())
KEYS = st.binary(min_size=32, max_size=32).map(DeviceId)


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors(vector: dict[str, str]) -> None:
    one, other = DeviceId(bytes.fromhex(vector["one"])), DeviceId(bytes.fromhex(vector["other"]))
    assert safety_number(one, other) == vector["number"]


@settings(max_examples=10, deadline=None)
@given(KEYS, KEYS, KEYS)
def test_both_sides_see_sixty_digits_and_a_third_key_gives_others(
    one: DeviceId, other: DeviceId, third: DeviceId
) -> None:
    number = safety_number(one, other)
    assert number == safety_number(other, one)
    assert re.fullmatch(r"(\d{5} ){11}\d{5}", number)
    assert third == other or safety_number(one, third) != number


def test_a_fingerprint_is_the_whole_key() -> None:
    device = DeviceId(bytes(range(32)))
    assert fingerprint(device).replace(" ", "") == device.hex()
    assert fingerprint(device).startswith("0001 0203 ")
