"""What the storage of a relay is known to have lost of each folder, so that members bring it again.

Invariant: derived from storage and bounded; a blob that is stored again is no loss any more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from meshsync.ids import BlobId, FolderId
from meshsync.limits import LOST_BLOBS_MAX, RELAY_LOSSES_MAX

Wake = Callable[[], None]


class Losses:
    """Belongs to one relay process."""

    def __init__(self) -> None:
        self._lost: dict[FolderId, dict[BlobId, int]] = {}  # → its number, in order
        self._count = 0
        self._followers: dict[FolderId, dict[Wake, None]] = {}

    def of(self, folder: FolderId) -> list[BlobId]:
        """Return what is lost of `folder`: of very many the first RELAY_LOSSES_MAX that were found."""
        return list(self._lost.get(folder, ()))

    def found_after(self, folder: FolderId, number: int) -> tuple[list[BlobId], int]:
        """Return up to LOST_BLOBS_MAX losses of `folder` beyond the one with this number (0: all), and the number of
        the last of them."""
        newer = ((blob, each) for blob, each in self._lost.get(folder, {}).items() if each > number)
        found = list(itertools.islice(newer, LOST_BLOBS_MAX))
        return [blob for blob, _ in found], found[-1][1] if found else number

    def found(self, folder: FolderId, blobs: Iterable[BlobId]) -> None:
        """Note blobs that `folder` holds and that are not there; whoever follows it is woken."""
        lost = self._lost.setdefault(folder, {})
        before = len(lost)
        for blob in blobs:
            if len(lost) < RELAY_LOSSES_MAX and blob not in lost:
                self._count += 1
                lost[blob] = self._count
        if len(lost) > before:
            for wake in list(self._followers.get(folder, ())):
                wake()

    def stored(self, folder: FolderId, blobs: Iterable[BlobId]) -> None:
        """Note that blobs are stored."""
        lost = self._lost.get(folder, {})
        if lost:
            for blob in blobs:
                lost.pop(blob, None)

    def follow(self, folder: FolderId, wake: Wake) -> None:
        """Call `wake` whenever more is found lost of `folder`, until `unfollow`."""
        self._followers.setdefault(folder, {})[wake] = None

    def unfollow(self, folder: FolderId, wake: Wake) -> None:
        """End that. Again does nothing."""
        self._followers.get(folder, {}).pop(wake, None)
        if not self._followers.get(folder):
            self._followers.pop(folder, None)
