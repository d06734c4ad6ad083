"""Old contents that a user's decision set aside on this disk: found by content, and read back.

Invariant: what is given was checked chunk by chunk; nothing in the area is changed. Calls block.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from stat import S_ISREG

from meshsync.chunking.cut import CutParams, Cutter
from meshsync.content.chunk_ids import check_chunk, chunk_id
from meshsync.content.manifest_builder import ManifestBuilder
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import ResourceError
from meshsync.folder.aside import KEPT_NAME
from meshsync.folder.names import CONTROL_NAME
from meshsync.ids import ChunkId
from meshsync.limits import FOLDER_READ_WINDOW_BYTES

Chunks = list[tuple[ChunkId, int]]


class KeptFile:
    """A file of the area with the content that was looked for."""

    def __init__(self, path: Path, keys: FolderKeys, chunks: Chunks) -> None:
        self._path = path
        self._keys = keys
        self._chunks = chunks

    def pieces(self) -> Iterator[bytes]:
        """Yield the content. Raises ChunkMismatch if the file is another now, ResourceError if it cannot be read."""
        at = 0
        for chunk, size in self._chunks:
            try:
                with self._path.open("rb") as file:
                    file.seek(at)
                    piece = file.read(size)
            except OSError as error:
                raise ResourceError("a version that was set aside cannot be read", path=str(self._path)) from error
            check_chunk(self._keys, BlobKind.CHUNK, chunk, piece)
            at += size
            yield piece


def find_kept(root: Path, content: Content, keys: FolderKeys, params: CutParams) -> KeptFile | None:
    """Return a file with `content` that was set aside in the folder at `root`, None if there is none."""
    return next((file for _, file in _found(root, {content}, keys, params)), None)


def kept_of(root: Path, wanted: Collection[Content], keys: FolderKeys, params: CutParams) -> set[Content]:
    """Return which of `wanted` were set aside in the folder at `root`. Reads only files of the size of one of them."""
    return {content for content, _ in _found(root, wanted, keys, params)} if wanted else set()


def _found(
    root: Path, wanted: Collection[Content], keys: FolderKeys, params: CutParams
) -> Iterator[tuple[Content, KeptFile]]:
    sizes = {content.size for content in wanted}
    for directory, _, names in os.walk(root / os.fsdecode(CONTROL_NAME) / os.fsdecode(KEPT_NAME)):
        for name in sorted(names):
            path = Path(directory) / name
            try:
                status = path.lstat()
                if not S_ISREG(status.st_mode) or status.st_size not in sizes:
                    continue
                with path.open("rb") as file:
                    found, chunks = content_of(iter(lambda: file.read(FOLDER_READ_WINDOW_BYTES), b""), keys, params)
            except OSError:
                continue  # what cannot be read is not here
            if found in wanted:
                yield found, KeptFile(path, keys, chunks)


def content_of(windows: Iterable[bytes], keys: FolderKeys, params: CutParams) -> tuple[Content, Chunks]:
    """Return the content that the bytes of a file are, and its chunks in order."""
    cutter, builder = Cutter(keys.cut_seed, params), ManifestBuilder(keys)
    chunks: Chunks = []

    def take(window: bytes, last: bool) -> None:
        for piece in cutter.feed(window, last):
            chunk = chunk_id(keys, BlobKind.CHUNK, piece)
            chunks.append((chunk, len(piece)))
            builder.add(chunk, len(piece))

    for window in windows:
        take(window, False)
    take(b"", True)
    built = builder.finish().content
    assert built.kind is Kind.FILE
    return built, chunks
