"""What a device keeps of its recovery sheet: the public part, in one file of its home.

Invariant: neither words nor secrets are in it; who reads it can recognise the sheet and encrypt to it, nothing more.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshsync.agent.home import Home
from meshsync.codec.canonical import Record, decode, encode
from meshsync.errors import ConfigError, MalformedMessage
from meshsync.ids import ID_SIZE_BYTES
from meshsync.limits import COUNTER_MAX, SHEET_NOTE_BYTES_MAX, SHEETS_REPLACED_MAX
from meshsync.store.files import SystemFiles, write_atomic

NOTE_VERSION = 1
_Id = Annotated[bytes, msgspec.Meta(min_length=ID_SIZE_BYTES, max_length=ID_SIZE_BYTES)]


class SheetNote(Record, frozen=True):
    """`consent` lets this device enrol the sheet; `made_s` is in seconds since 1970.

    `replaced` are earlier sheets of this device, which are to be removed from every folder.
    """

    version: Annotated[int, msgspec.Meta(ge=NOTE_VERSION, le=NOTE_VERSION)]
    device: _Id
    box_public: _Id
    consent: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    made_s: Annotated[int, msgspec.Meta(ge=0, le=COUNTER_MAX)]
    replaced: Annotated[tuple[_Id, ...], msgspec.Meta(max_length=SHEETS_REPLACED_MAX)] = ()


def load_note(home: Home) -> SheetNote | None:
    """Return the note in `home`, None if no sheet was made. Blocking. Raises ConfigError if it is damaged."""
    path = home.recovery_sheet
    try:
        with path.open("rb") as file:
            data = file.read(SHEET_NOTE_BYTES_MAX + 1)
        return decode(SheetNote, data, SHEET_NOTE_BYTES_MAX)
    except FileNotFoundError:
        return None
    except (OSError, MalformedMessage) as error:
        raise ConfigError(
            "the note of the recovery sheet cannot be read",
            path=str(path),
            next_step=f"Move {path} away, start meshsync, and make a new sheet: meshsync recovery sheet",
        ) from error


def save_note(home: Home, note: SheetNote) -> None:
    """Keep `note` durably in the place of the one before. Blocking. Raises ResourceError."""
    write_atomic(SystemFiles(), home.recovery_sheet, encode(note))
