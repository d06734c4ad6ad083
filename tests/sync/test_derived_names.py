"""Derived ids and names: docs/spec/view.md 4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.ids import DeviceId, Dot, NodeId
from meshsync.sync.names import copy_id, derived_name, path_id

DEVICE, NODE = DeviceId(b"\xab\xcd" + bytes(30)), NodeId(bytes(32))
VECTORS = {
    b"report.txt": b"report (conflict abcd TAG).txt",
    b"report": b"report (conflict abcd TAG)",
    b".profile": b".profile (conflict abcd TAG)",
    b"a.tar.gz": b"a.tar (conflict abcd TAG).gz",
    b"x.avery-long-extension": b"x.avery-long-extension (conflict abcd TAG)",
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_mark_goes_before_the_extension(name: bytes) -> None:
    assert derived_name(name, DEVICE, NODE) == VECTORS[name].replace(b"TAG", b"acdb896e")


def test_ids() -> None:
    assert copy_id(NODE, Dot(bytes(44))).hex() == "bde393d54dfb4ed0a1d732d06cb6825e3119cd5bba2af92cc74e8e1d4cd2835e"
    assert path_id((b"a", b"b")).hex() == "042760931efb311034ee61fa9f0860617d6d6e5631fd43b554f9cea5ef4142ef"


@given(st.binary(min_size=1, max_size=255), st.integers(0, 3))
def test_a_derived_name_fits_and_differs(name: bytes, attempt: int) -> None:
    derived = derived_name(name, DEVICE, NODE, attempt)
    assert len(derived) <= 255 and derived != name
    assert derived != derived_name(name, DEVICE, NodeId(b"\1" * 32), attempt)


@given(st.text(min_size=60, max_size=80))
def test_a_long_name_is_cut_between_characters(name: str) -> None:
    encoded = name.encode("utf-8", "replace")[:255]
    whole = encoded.decode("utf-8", "ignore").encode()
    derived_name(whole or b"x", DEVICE, NODE).decode()


def test_names_that_are_equal_once_cut_still_differ() -> None:
    one, other = (derived_name(b"n" * 250 + tail, DEVICE, NodeId(tail * 32)) for tail in (b"a", b"b"))
    assert one != other and len(one) <= 255
