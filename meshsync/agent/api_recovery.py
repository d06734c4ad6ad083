"""The values of the local API that concern loss: the recovery sheet, recovering by it, the passphrase."""

from __future__ import annotations

from typing import Literal

import msgspec

from meshsync.agent.api_schema import Answer, Schema

SheetState = Literal["ready", "waiting", "no relay", "not an owner", "removed", "no sheet"]
"""Of one folder: the sheet brings it back; it will once a relay has heard of it; no relay stores the folder; this
device may not make the sheet an owner; an owner removed the sheet; no sheet was made."""


class SheetFolder(Schema, frozen=True, kw_only=True):
    """One folder, and whether the recovery sheet brings it back."""

    id: str
    name: str
    state: SheetState


class SheetRequest(Schema, frozen=True, kw_only=True):
    """`new`: in the place of the sheet that there is, which ends."""

    new: bool = False


class Sheet(Answer, frozen=True, kw_only=True):
    """A fresh recovery sheet. `words` are told here and never again; `relays` are where the folders are found."""

    words: list[str]
    fingerprint: str
    relays: list[str] = msgspec.field(default_factory=list)
    folders: list[SheetFolder] = msgspec.field(default_factory=list)


class RecoveryStatus(Answer, frozen=True, kw_only=True):
    """`made` is when the sheet was made, null if there is none; `fingerprint` is that of its key."""

    made: str | None = None
    fingerprint: str = ""
    relays: list[str] = msgspec.field(default_factory=list)
    folders: list[SheetFolder] = msgspec.field(default_factory=list)


class RecoverRequest(Schema, frozen=True, kw_only=True):
    """Bring back what the sheet with these `words` owns at `relay`, each folder as a directory below `path`."""

    words: str
    relay: str
    path: str


class RecoveredFolder(Schema, frozen=True, kw_only=True):
    """A folder that was brought back. `freshness_unverified`: nobody but the relay said that this is its newest."""

    id: str
    name: str
    path: str
    files: int
    bytes: int
    freshness_unverified: bool


class LostFolder(Schema, frozen=True, kw_only=True):
    """A folder that the relay named and that could not be brought back."""

    id: str
    why: str


class Recovered(Answer, frozen=True, kw_only=True):
    """What a recovery brought back, what was here already, and what it could not bring back."""

    folders: list[RecoveredFolder] = msgspec.field(default_factory=list)
    already: list[str] = msgspec.field(default_factory=list)
    failed: list[LostFolder] = msgspec.field(default_factory=list)
