"""Text from outside, made safe for a terminal.

Invariant: what comes out moves no cursor, changes no colour, reorders nothing and is one line, and two different
names never look alike because of characters that cannot be seen.
"""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return `text` with every unprintable character as `\xNN`, `\uNNNN` or `\UNNNNNNNN`, and `\` as `\\`.

    Unprintable are controls, formats (bidi among them), separators except the space, private use, unassigned
    characters and surrogates; a surrogate escape (PEP 383) becomes the `\xNN` of the byte it stands for.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escape, text))


def printable_line(text: str) -> str:
    """Return one line of a file with every unprintable character but the tab as `printable` writes it.

    Backslashes stay: it is read as what the file says, not as a name to tell from others.
    """
    return "".join(c if c.isprintable() or c == "\t" else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"  # above, \xNN would read as a byte that is not UTF-8
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
