"""What the local API says of folders that a device keeps as a backup."""

from __future__ import annotations

from typing import Literal

import msgspec

BackupPhase = Literal["keeping", "not there", "ended"]
"""`not there`: its disk is missing or refuses; `ended`: an owner removed this device, nothing is served any more."""


class KeptFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that this device keeps and cannot read. `name` is what its user calls it; what is in it, is sealed.

    `blobs` are sealed pieces of content, which take `bytes`; `records` is how long its log is.
    """

    id: str
    name: str
    path: str
    state: BackupPhase
    members: int = 0
    linked: int = 0  # members that are linked now
    blobs: int = 0
    bytes: int = 0
    records: int = 0
