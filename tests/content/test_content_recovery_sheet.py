"""docs/spec/crypto.md 9: 32 bytes as words and as a device, and what is refused before anything is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.content.code_words import WORDS
from meshsync.content.recovery_sheet import parse_sheet, sheet_keys, sheet_words, ticket_secret
from meshsync.errors import SheetInvalid
from meshsync.ids import DeviceId, FolderId

secrets = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(
    "secret, words",
    [  # of the reference vectors of BIP-39
        (bytes(32), "abandon " * 23 + "art"),
        (b"\xff" * 32, "zoo " * 23 + "vote"),
        (b"\x7f" * 32, "legal winner thank year wave sausage worth useful " * 2
         + "legal winner thank year wave sausage worth title"),
    ],
)  # fmt: skip
def test_words_are_those_of_bip_39(secret: bytes, words: str) -> None:
    assert " ".join(sheet_words(secret)) == words
    assert parse_sheet(words) == secret


def test_the_device_and_the_ticket_are_fixed_for_ever() -> None:
    keys = sheet_keys(bytes(range(32)))
    assert keys.device.hex() == "e1241853da3624cbce7eb05fd5cb57a0359841393507c71e6ea0a260cb4ca300"
    assert keys.box_public.hex() == "e9932a46ed327d3d137ab4fca186c701d6b40de8058ae2f9395d444cc9eb0649"
    secret = ticket_secret(bytes(range(32)), FolderId(b"f" * 32), DeviceId(b"d" * 32), 16)
    assert secret.hex() == "a1a68c2f8e918d1188f1b0064fa28e7a"


@given(secrets)
def test_words_and_bytes_are_one_to_one(secret: bytes) -> None:
    assert parse_sheet(" ".join(sheet_words(secret))) == secret


@given(secrets)
def test_as_people_write_them(secret: bytes) -> None:
    words = sheet_words(secret)
    lines = "\n".join(f"{number:2}. {word[:4].upper()}" for number, word in enumerate(words, 1))
    assert parse_sheet(lines) == secret


@given(secrets, st.integers(0, 23), st.sampled_from(WORDS))
def test_another_word_is_refused_unless_the_checksum_happens_to_fit(secret: bytes, place: int, other: str) -> None:
    words = list(sheet_words(secret))
    words[place] = other
    try:
        found = parse_sheet(" ".join(words))
    except SheetInvalid:
        return
    assert sheet_words(found) == tuple(words)


def test_a_swap_a_missing_word_and_a_stranger_are_refused_and_what_was_typed_is_not_repeated() -> None:
    words = sheet_words(bytes(range(32)))
    for wrong in (
        (words[1], words[0], *words[2:]),
        words[:-1],
        (*words, words[0]),
        ("passwort", *words[1:]),
        ("a", *words[1:]),
    ):
        with pytest.raises(SheetInvalid) as refused:
            parse_sheet(" ".join(wrong))
        assert "passwort" not in str(refused.value) and words[5] not in str(refused.value)


def test_a_ticket_is_for_one_folder_and_one_device() -> None:
    folders = [FolderId(bytes([n]) * 16 + bytes([m]) * 16) for n in (1, 2) for m in (1, 2)]
    devices = [DeviceId(bytes(folder)) for folder in folders]
    made = {ticket_secret(bytes(32), folder, device, 16) for folder in folders for device in devices}
    assert len(made) == 16


@given(st.text(max_size=700))
def test_junk_is_refused(junk: str) -> None:
    with pytest.raises(SheetInvalid):
        parse_sheet(junk)
