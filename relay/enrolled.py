"""Telling a key that was kept off-line of which folders it is a member.

Invariant: a device hears only of folders that it is a member of now, as its link proves; nobody hears of another's.
"""

from __future__ import annotations

from meshsync.errors import MalformedMessage
from meshsync.ids import DeviceId
from meshsync.limits import FOLDERS_LISTED_MAX
from meshsync.wire.relay_messages import FolderList, ListFolders, Message
from relay.access import Right, right_of
from relay.core import RelayCore


async def list_folders(core: RelayCore, device: DeviceId, request: Message) -> FolderList:
    """Return the next folders that enrolled `device`, without those that have removed it since."""
    if not isinstance(request, ListFolders):
        raise MalformedMessage("not a question for folders")
    found: list[bytes] = []
    after = request.after
    while len(found) < FOLDERS_LISTED_MAX:
        page = await core.log.enrolled(device, after, FOLDERS_LISTED_MAX - len(found))
        if not page:
            break
        for folder in page:
            view = await core.views.get(folder)
            if view is not None and right_of(view.membership, device) is not Right.NONE:
                found.append(folder)
        after = page[-1]
    return FolderList(tuple(found))
