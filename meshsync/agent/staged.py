"""Content that is complete in the staging area and waits to be put in place."""

from __future__ import annotations

from dataclasses import dataclass

from meshsync.folder.staging import StagedFile
from meshsync.ids import ChunkId


@dataclass(frozen=True, slots=True)
class Staged:
    """A staged file with the chunks (id, size) that it holds in order, and the manifest lists above them."""

    file: StagedFile
    chunks: tuple[tuple[ChunkId, int], ...]
    lists: tuple[tuple[ChunkId, bytes], ...]
