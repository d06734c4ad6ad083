"""Text that people copy: one value, one text, and mistakes are noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.codec.base32 import from_text, to_text
from meshsync.errors import MalformedMessage


def test_golden():
    assert to_text("ticket", b"") == "kn5btwg"
    assert to_text("ticket", bytes(range(5))) == "000g40r4gjs0ms8"


@given(st.binary(max_size=200))
def test_every_value_survives(data: bytes):
    text = to_text("ticket", data)
    assert from_text("ticket", text, len(data)) == data
    with pytest.raises(MalformedMessage):
        from_text("relay-token", text, len(data))


@given(st.binary(max_size=60), st.data())
def test_one_changed_character_is_noticed(data: bytes, choose: st.DataObject):
    text = to_text("ticket", data)
    at = choose.draw(st.integers(0, len(text) - 1))
    other = choose.draw(st.sampled_from("0123456789abcdefghjkmnpqrstvwxyzilou=A \n\u00e9\U0001f600"))
    if other != text[at]:
        with pytest.raises(MalformedMessage):
            from_text("ticket", text[:at] + other + text[at + 1 :], len(data))


@given(st.text(max_size=40))
def test_any_text_is_a_typed_error(text: str):
    with pytest.raises(MalformedMessage):
        from_text("ticket", text, 1000)


def test_the_size_is_bounded():
    with pytest.raises(MalformedMessage):
        from_text("ticket", to_text("ticket", bytes(20)), 10)
