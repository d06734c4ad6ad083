"""A recovery sheet: 32 random bytes as 24 words, and the device that they are.

Invariant: words, bytes and keys are one to one, so who has the words needs nothing else. The words are those of BIP-39
with its checksum (English list and its licence in `content.code_words`), which finds all but one in 256 mistakes that
are still words of the list.
"""

from __future__ import annotations

import difflib
import hashlib
import re

from meshsync.content.code_words import WORDS
from meshsync.crypto.hashing import derive
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import SheetInvalid
from meshsync.ids import DeviceId, FolderId
from meshsync.limits import SHEET_CHARS_MAX, SHEET_WORDS

SECRET_SIZE_BYTES = 32
_BITS_PER_WORD = 11
_NUMBERS = {word: number for number, word in enumerate(WORDS)}
_SEPARATORS = re.compile(r"[\s\-_.,;:0-9]+")
_NEXT_STEP = "Type the 24 words in the order of the sheet; their first four letters are enough."


def sheet_words(secret: bytes) -> tuple[str, ...]:
    """Return the words of 32 secret bytes."""
    assert len(secret) == SECRET_SIZE_BYTES
    number = int.from_bytes(secret + _checksum(secret), "big")
    places = range(SHEET_WORDS - 1, -1, -1)
    return tuple(WORDS[(number >> (_BITS_PER_WORD * place)) % len(WORDS)] for place in places)


def parse_sheet(text: str) -> bytes:
    """Return the 32 bytes of the words in `text`: any case, with numbers, dashes or line breaks between them.

    Raises SheetInvalid for another number of words, a word that is none or is cut too short, or a wrong checksum; it
    names words of the list, never those that were typed.
    """
    typed = [word for word in _SEPARATORS.split(text.casefold()) if word]
    if len(text) > SHEET_CHARS_MAX or len(typed) != SHEET_WORDS:
        raise SheetInvalid(f"a recovery sheet has {SHEET_WORDS} words", next_step=_NEXT_STEP)
    number = 0
    for place, word in enumerate(typed, 1):
        number = number << _BITS_PER_WORD | _number(word, place)
    data = number.to_bytes(SECRET_SIZE_BYTES + 1, "big")
    secret = data[:SECRET_SIZE_BYTES]
    if data[SECRET_SIZE_BYTES:] != _checksum(secret):
        raise SheetInvalid(
            "these words do not belong together: one is wrong, or two changed places", next_step=_NEXT_STEP
        )
    return secret


def sheet_keys(secret: bytes) -> DeviceKeys:
    """Return the device that the sheet is."""
    return DeviceKeys(derive(secret, b"ms1 sheet sign") + derive(secret, b"ms1 sheet box"))


def ticket_secret(secret: bytes, folder: FolderId, device: DeviceId, size: int) -> bytes:
    """Return the secret of the ticket by which the sheet lets `device` into `folder`.

    A machine that was stopped half-way finds the same one again.
    """
    key = secret
    for part in (folder[:16], folder[16:], device[:16], device[16:]):
        key = derive(key, b"ms1 sheet ticket", part)
    return key[:size]


def _number(word: str, place: int) -> int:
    if word in _NUMBERS:
        return _NUMBERS[word]
    begun = [known for known in WORDS if known.startswith(word)]
    if len(begun) == 1:
        return _NUMBERS[begun[0]]
    near = begun[:3] or difflib.get_close_matches(word, WORDS, 3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise SheetInvalid(f"word {place} is {'not clear' if begun else 'no word of a sheet'}{hint}", next_step=_NEXT_STEP)


def _checksum(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()[:1]
