"""Faults that a user can ask for, to see recovery at work: `MESHSYNC_FAULT=damage-chunk:1`.

Invariant: without the variable nothing is ever altered; with it only answers of others are, before they are checked.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from meshsync.agent.fetcher import Sealed
from meshsync.content.seal import BlobKind
from meshsync.errors import ConfigError


class Faults:
    """Parsed from `text`: empty, or `damage-chunk:N` to flip one bit in each of the first N chunks that arrive."""

    def __init__(self, text: str = "") -> None:
        """Raises ConfigError for another text."""
        kind, _, count = text.partition(":")
        if text and (kind != "damage-chunk" or not count.isdigit()):
            raise ConfigError(f"unknown fault {text!r}", next_step="Use MESHSYNC_FAULT=damage-chunk:1")
        self._left = int(count) if text else 0
        self._lock = threading.Lock()

    def damage(self, answer: Sealed) -> Sealed:
        """Return the answer as it is, or damaged."""
        if not self._left or answer.need.kind is not BlobKind.CHUNK:
            return answer
        with self._lock:
            if not self._left:
                return answer
            self._left -= 1
        middle = len(answer.blob) // 2
        flipped = bytes([answer.blob[middle] ^ 1])
        return replace(answer, blob=answer.blob[:middle] + flipped + answer.blob[middle + 1 :])
