"""What the local API says of single shared files."""

from __future__ import annotations

from typing import Literal

import msgspec

SharedFileState = Literal[
    "up to date", "updating", "invited", "deleted", "not followed", "ended", "fetching", "changed here", "not there"
]
"""Of a file that is shared: "invited" until somebody has it; "deleted" in its folder; "not followed" while that folder
is not synced here; "ended" until relays know. Of one that was handed to this device: "deleted" by its sharer; "changed
here": what its user changed stays, and newer versions go beside it; "not there": moved away or deleted here.
"""


class SharedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file that is shared by itself, `given` by this device or taken from another.

    `path` is where it was shared from, or where it was put. `device` is who has it, or who shares it; empty if nobody
    has it yet. `follows` is null where only the sharer knows. `expires` is that of a ticket that is still open.
    """

    id: str
    name: str
    path: str
    given: bool
    state: SharedFileState
    device: str = ""
    follows: bool | None = None
    bytes: int = 0
    expires: str | None = None
    relayed: bool = False
    stored: bool = False  # a relay has the newest version: it can be fetched while the sharer is off
