"""Text from outside, made safe for a terminal.

Invariant: what comes out moves no cursor, changes no colour, reorders nothing and is one line, and two different
names never look alike because of characters that cannot be seen.
"""

from __future__ import annotations

import unicodedata

# Controls, formats (bidi among them), surrogates, private use, unassigned, line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset({"\u200c", "\u200d"})  # invisible but needed to write Persian, Hindi and emoji


def printable(text: str) -> str:
    r"""Return `text` with every unsafe character as `\xNN`, `\uNNNN` or `\UNNNNNNNN`, and `\` as `\\`.

    A surrogate escape (PEP 383) becomes the `\xNN` of the byte it stands for. Never raises.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if character in _JOINERS or unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"  # above, \xNN would read as a byte that is not UTF-8
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
