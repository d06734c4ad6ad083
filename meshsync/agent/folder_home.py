"""Where an agent keeps what it knows of one folder: `<home>/folders/<folder id>/`.

Invariant: a directory that holds the file `ready` is complete; others are left over from a set-up that did not finish
and are removed at the next start.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from meshsync.errors import ResourceError
from meshsync.ids import ID_SIZE_BYTES, FolderId
from meshsync.store.files import SystemFiles, make_directory, write_atomic


@dataclass(frozen=True, slots=True)
class FolderHome:
    """The state directory of one folder."""

    path: Path

    @property
    def index(self) -> Path:
        """The SQLite index."""
        return self.path / "index.sqlite3"

    @property
    def keys(self) -> Path:
        """The folder's keys, mode 0600."""
        return self.path / "keys"

    @property
    def folder(self) -> FolderId:
        """The folder's id, from the directory's name."""
        return FolderId(bytes.fromhex(self.path.name))

    @property
    def _ready(self) -> Path:
        return self.path / "ready"

    def finish(self) -> None:
        """Mark the set-up as complete."""
        write_atomic(SystemFiles(), self._ready, b"1\n")

    def remove(self) -> None:
        """Forget the folder; the user's files are elsewhere and stay."""
        self._ready.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)


def create(home: Path, folder: FolderId) -> FolderHome:
    """Make the state directory of a new folder; what a broken set-up left there is removed. Raises ResourceError."""
    parent = home / "folders"
    files = SystemFiles()
    found = FolderHome(parent / folder.hex())
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(found.path, ignore_errors=True)
    except OSError as error:
        raise ResourceError(f"cannot make the folder's state: {error.strerror}", path=str(parent)) from error
    make_directory(files, found.path)
    return found


def existing(home: Path) -> list[FolderHome]:
    """Return the complete ones, in order of folder id; unfinished ones are removed."""
    complete = []
    parent = home / "folders"
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        if len(path.name) != 2 * ID_SIZE_BYTES:
            continue
        found = FolderHome(path)
        if (path / "ready").exists():
            complete.append(found)
        else:
            found.remove()
    return complete
