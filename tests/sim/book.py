"""What the users wrote and what they gave up: the oracle for "nothing written is lost".

Invariant: a content counts as given up only if it lay whole at the path that a user overwrote or removed there.
"""

from __future__ import annotations


class Book:
    """Contents are unique bytes; empty ones are not kept account of."""

    def __init__(self) -> None:
        self.written: dict[bytes, str] = {}
        self.given_up: set[bytes] = set()

    def write(self, content: bytes, by: str) -> None:
        """Note that a user completed a file with this content."""
        if content:
            self.written[content] = by

    def give_up(self, content: bytes) -> None:
        """Note that a user overwrote or removed a file with this content."""
        self.given_up.add(content)

    def lost(self, present: set[bytes]) -> dict[bytes, str]:
        """Return the contents that nobody gave up and that are not among `present`."""
        return {
            content: by
            for content, by in self.written.items()
            if content not in self.given_up and content not in present
        }
