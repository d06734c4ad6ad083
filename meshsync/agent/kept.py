"""Old contents that a user's decision set aside on this disk: found by content, and read back.

Invariant: what is given was checked chunk by chunk; nothing in the area is changed. Calls block.
"""

from __future__ import annotations

import contextlib
import os
import threading
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


class KeptArea:
    """What was set aside in the folder at `root` when it is first looked into; for many questions, by any threads.

    It is walked once, and a file read once, if its size is one that is asked for.
    """

    def __init__(self, root: Path, keys: FolderKeys, params: CutParams) -> None:
        self._top = root / os.fsdecode(CONTROL_NAME) / os.fsdecode(KEPT_NAME)
        self._keys, self._params = keys, params
        self._by_size: dict[int, list[Path]] | None = None
        self._read: dict[int, dict[Content, KeptFile]] = {}
        self._lock = threading.Lock()

    def find(self, content: Content) -> KeptFile | None:
        """Return a file with `content`, None if there is none."""
        with self._lock:
            if self._by_size is None:
                self._by_size = self._walk()
            if content.size not in self._read:
                self._read[content.size] = dict(self._contents(self._by_size.get(content.size, ())))
            return self._read[content.size].get(content)

    def _walk(self) -> dict[int, list[Path]]:
        found: dict[int, list[Path]] = {}
        for directory, _, names in os.walk(self._top):
            for name in sorted(names):
                path = Path(directory, name)
                with contextlib.suppress(OSError):  # what cannot be read is not here
                    status = path.lstat()
                    if S_ISREG(status.st_mode):
                        found.setdefault(status.st_size, []).append(path)
        return found

    def _contents(self, paths: Iterable[Path]) -> Iterator[tuple[Content, KeptFile]]:
        for path in paths:
            with contextlib.suppress(OSError), path.open("rb") as file:
                windows = iter(lambda file=file: file.read(FOLDER_READ_WINDOW_BYTES), b"")  # type: ignore[misc]
                content, chunks = content_of(windows, self._keys, self._params)
                yield content, KeptFile(path, self._keys, chunks)


def find_kept(root: Path, content: Content, keys: FolderKeys, params: CutParams) -> KeptFile | None:
    """Return a file with `content` that was set aside in the folder at `root`, None if there is none."""
    return KeptArea(root, keys, params).find(content)


def kept_of(root: Path, wanted: Collection[Content], keys: FolderKeys, params: CutParams) -> set[Content]:
    """Return which of `wanted` were set aside in the folder at `root`. Reads only files of the size of one of them."""
    area = KeptArea(root, keys, params)
    return {content for content in wanted if area.find(content) is not None}


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
