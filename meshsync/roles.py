"""What a device may do in a folder. Invariant: the numbers are part of the formats and never change meaning."""

from __future__ import annotations

import enum


class Role(enum.IntEnum):
    """A member's role. A lower number may do everything that a higher one may."""

    OWNER = 1
    """Signs membership; reads and writes."""

    WRITER = 2
    """Reads and writes."""

    READER = 3
    """Holds the keys and signs what it stored; its entries are refused."""

    BACKUP = 4
    """Holds ciphertext only, receives no keys, signs nothing in the folder."""

    @property
    def may_own(self) -> bool:
        """Whether the role signs membership entries."""
        return self is Role.OWNER

    @property
    def may_write(self) -> bool:
        """Whether the role signs entries."""
        return self <= Role.WRITER

    @property
    def may_read(self) -> bool:
        """Whether the role receives folder keys, and signs stored records."""
        return self <= Role.READER
