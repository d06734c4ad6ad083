"""By what a backup, which holds no folder key, and the members of its folder recognise each other. Pure."""

from __future__ import annotations

from meshsync.crypto.hashing import derive
from meshsync.ids import DeviceId, FolderId


def discovery_key(folder: FolderId, backup: DeviceId) -> bytes:
    """Return the discovery key of `backup`: 32 bytes that whoever has read the membership chain can derive.

    It is no secret of the folder's: relays and former members can look for a backup whose id they know, and learn
    nothing but that it is there.
    """
    return derive(backup, b"backup-discover", salt=folder[:16])
