"""Every value that a user wrote, and what became of it.

Invariant: a value is a unique piece of text. Once it lay in a tree it may be missing only if a user removed or
overwrote what held it since the last time all trees were equal, and once it is gone from all trees it never comes back.
Each file found has bytes that some user made: nothing is mixed, cut or invented.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from pathlib import Path

_VALUE = re.compile(rb"v\d{7};")


def values_in(content: bytes) -> set[bytes]:
    """Return the values that some bytes hold."""
    return set(_VALUE.findall(content))


class Ledger:
    """Writes the history to `path`, a line for each act, before the act happens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made = 0
        self._file = path.open("w", encoding="utf-8", errors="surrogateescape")
        self._written: set[bytes] = set()  # lay in a tree
        self._removed: dict[bytes, str] = {}  # since the trees were equal: value → the act
        self._gone: set[bytes] = set()
        self._made_contents = {_digest(b"")}  # a file is empty for a moment while it is rewritten in place
        self._act = ""

    def close(self) -> None:
        self._file.close()

    def note(self, who: str, *words: object) -> None:
        """Write a line of history; what is removed from now on is removed by it."""
        self._act = " ".join((who, *map(str, words)))
        self._file.write(f"{time.time():.3f} {self._act}\n")
        self._file.flush()

    def new_value(self) -> bytes:
        self.made += 1
        return b"v%07d;" % self.made

    def intends(self, content: bytes) -> None:
        """A user is about to write a file with this content."""
        self._made_contents.add(_digest(content))
        self._file.write(f"    writes {_text(values_in(content))}\n")
        self._file.flush()

    def wrote(self, content: bytes) -> None:
        """A user wrote this, and it lay in the tree afterwards."""
        self._written |= values_in(content)

    def removed(self, before: bytes, after: bytes = b"") -> None:
        """A user made `before`, which was read there, into `after`, or into nothing."""
        lost = values_in(before) - values_in(after)
        if lost:
            self._file.write(f"    removes {_text(lost)}\n")
        for value in lost:
            self._removed.setdefault(value, self._act)

    def account(self, files: Iterable[tuple[str, bytes]], links: Iterable[bytes]) -> list[str]:
        """Compare with what all trees hold now that they are equal; return what is wrong as sentences."""
        here: set[bytes] = set()
        wrong = []
        for name, content in files:
            here |= values_in(content)
            if _digest(content) not in self._made_contents:
                wrong.append(f"nobody wrote what {name} holds: {_text(values_in(content))}, {len(content)} bytes")
        for target in links:
            here |= values_in(target)
        missing = self._written - self._gone - here
        wrong += [f"lost: {value.decode()}" for value in sorted(missing - self._removed.keys())]
        wrong += [f"came back: {value.decode()}" for value in sorted(here & self._gone)]
        self._gone |= missing
        self._removed.clear()  # what is here in spite of a removal was concurrent: it must be removed anew to go
        return wrong


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _text(values: Iterable[bytes]) -> str:
    return b" ".join(sorted(values)).decode() or "nothing"
