"""What a device notes of a folder that it keeps as a backup: `<home>/backups/<folder id>/note`.

Invariant: the note is written last, so a directory with one is complete; the others are left over from a set-up that
did not finish and are removed at the next start.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record, decode, encode
from meshsync.errors import ResourceError
from meshsync.ids import ID_SIZE_BYTES, FolderId
from meshsync.store.files import SystemFiles, make_directory, write_atomic

NOTE_VERSION = 1
_DIRECTORY = "backups"
_Text = Annotated[str, msgspec.Meta(max_length=limits.ADDRESS_CHARS_MAX)]


class BackupNote(Record, frozen=True):
    """`root` is where sealed content and log are, `name` how its user calls it, `addresses` where the inviter was."""

    version: Annotated[int, msgspec.Meta(ge=NOTE_VERSION, le=NOTE_VERSION)]
    root: Annotated[bytes, msgspec.Meta(min_length=1, max_length=limits.PATH_BYTES_MAX)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=limits.NAME_BYTES_MAX)]
    addresses: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=limits.ADDRESSES_MAX)]


@dataclass(frozen=True, slots=True)
class BackupHome:
    """The state directory of one kept folder."""

    path: Path

    @property
    def folder(self) -> FolderId:
        """The folder's id, from the directory's name."""
        return FolderId(bytes.fromhex(self.path.name))

    @property
    def inner_root(self) -> Path:
        """Where content and log are if their user named no place."""
        return self.path / "sealed"

    def read(self) -> BackupNote:
        """Return the note. Blocking. Raises ResourceError, MalformedMessage, FormatUnsupported."""
        try:
            data = self._note.read_bytes()
        except OSError as error:
            raise ResourceError(
                f"the note of a backup cannot be read: {error.strerror}", path=str(self._note)
            ) from error
        return decode(BackupNote, data, limits.CONFIG_BYTES_MAX)

    def write(self, note: BackupNote) -> None:
        """Keep the note, durably: the set-up is complete. Blocking. Raises ResourceError."""
        write_atomic(SystemFiles(), self._note, encode(note))

    def remove(self) -> None:
        """Forget the folder, with what is kept of it inside the home. Blocking."""
        self._note.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def _note(self) -> Path:
        return self.path / "note"


def create(home: Path, folder: FolderId) -> BackupHome:
    """Make the state directory of a folder; what a broken set-up left there is removed. Raises ResourceError."""
    parent, files = home / _DIRECTORY, SystemFiles()
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        shutil.rmtree(parent / folder.hex(), ignore_errors=True)
    except OSError as error:
        raise ResourceError(f"cannot make the backup's state: {error.strerror}", path=str(parent)) from error
    make_directory(files, parent / folder.hex())
    return BackupHome(parent / folder.hex())


def are_kept(home: Path) -> bool:
    """Whether a folder was ever kept here."""
    return (home / _DIRECTORY).is_dir()


def existing(home: Path) -> list[BackupHome]:
    """Return the complete ones, in order of folder id; unfinished ones are removed. Blocking."""
    parent = home / _DIRECTORY
    found = []
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        if len(path.name) != 2 * ID_SIZE_BYTES:
            continue
        one = BackupHome(path)
        if (path / "note").exists():
            found.append(one)
        else:
            one.remove()
    return found
