"""A short code: a number, which may be known, and words, which may not. `7-canyon-ribbon-orbit`

Invariant: nothing derived from the words leaves a device but through `crypto.pake`; the number says where to meet.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from meshsync.content.code_words import WORDS
from meshsync.crypto.hashing import digest
from meshsync.errors import CodeInvalid
from meshsync.limits import CODE_CHARS_MAX, CODE_NUMBER_MAX, CODE_WORDS_MAX, CODE_WORDS_MIN

_SEPARATORS = re.compile(r"[\s\-_.,‐‑‒–—−]+")
_KNOWN = frozenset(WORDS)
_RANDOM_BYTES_PER_WORD = 2  # 2048 words divide 65536, so that each is equally likely
NEXT_STEP = "Ask for a new code: meshsync share PATH"


@dataclass(frozen=True, slots=True)
class Code:
    """`number` from 1 to CODE_NUMBER_MAX; `words` are at least CODE_WORDS_MIN of `code_words`."""

    number: int
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """What one person tells the other; secret."""
        return "-".join((str(self.number), *self.words))

    @property
    def password(self) -> bytes:
        """What both sides of the key exchange must know."""
        return " ".join(self.words).encode()

    def __repr__(self) -> str:
        return f"Code({self.number}, {len(self.words)} words)"


def discovery_key(number: int) -> bytes:
    """Return the 32 bytes by which those who know the number of a code find each other. Not secret: numbers are few."""
    return digest("code-number", number.to_bytes(4, "big"))


def random_bytes_needed() -> int:
    """Return how many random bytes `make_code` takes."""
    return CODE_WORDS_MIN * _RANDOM_BYTES_PER_WORD


def make_code(number: int, random: bytes) -> Code:
    """Return a code with words drawn by `random`, `random_bytes_needed()` fresh bytes."""
    assert len(random) == random_bytes_needed() and 1 <= number <= CODE_NUMBER_MAX
    draws = (int.from_bytes(random[at : at + 2], "big") for at in range(0, len(random), _RANDOM_BYTES_PER_WORD))
    return Code(number, tuple(WORDS[draw % len(WORDS)] for draw in draws))


def looks_like_code(text: str) -> bool:
    """Whether `text` is meant as a code rather than as a ticket: it begins with a digit."""
    return text.lstrip()[:1].isdigit()


def parse_code(text: str) -> Code:
    """Return the code that `text` means: in any case, with blanks or dashes, words cut where they are clear.

    Raises CodeInvalid for a number or word that is none, an unclear beginning of one, and too few words.
    """
    if len(text) > CODE_CHARS_MAX:
        raise _invalid("it is too long")
    first, *typed = [part for part in _SEPARATORS.split(text.casefold()) if part] or [""]
    if not (first.isascii() and first.isdigit() and 1 <= int(first) <= CODE_NUMBER_MAX):
        raise _invalid(f"it begins with a number from 1 to {CODE_NUMBER_MAX}")
    if len(typed) < CODE_WORDS_MIN:
        raise _invalid(f"a number and at least {CODE_WORDS_MIN} words are needed; nothing was sent")
    if len(typed) > CODE_WORDS_MAX:
        raise _invalid(f"it has at most {CODE_WORDS_MAX} words")
    return Code(int(first), tuple(map(_word, typed)))


def _word(typed: str) -> str:
    if typed in _KNOWN:
        return typed
    begun = [word for word in WORDS if word.startswith(typed)]
    if len(begun) == 1:
        return begun[0]
    near = begun[:3] or difflib.get_close_matches(typed, WORDS, 3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise _invalid(f"{typed!r} is {'not clear' if begun else 'no word of a code'}{hint}")


def _invalid(why: str) -> CodeInvalid:
    return CodeInvalid(f"not a valid code: {why}", next_step="Type it as it was told, such as 7-canyon-ribbon-orbit")
