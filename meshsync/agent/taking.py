"""Having been handed a file: every version of it that comes is put where its user wanted it.

Invariant: only what was put there by this device, and is unchanged since, is ever replaced; whatever else lies in the
way stays, and the file gets a numbered name. A file that its user moved away or removed is not put there again.
"""

from __future__ import annotations

import enum
import os

import msgspec

from meshsync.agent.content_pieces import content_pieces
from meshsync.agent.folder import Folder
from meshsync.agent.giving import holds_file
from meshsync.agent.handout import Taken, names, place_of
from meshsync.agent.history import pack_content, unpack_content
from meshsync.agent.kept import content_of
from meshsync.errors import ResourceError
from meshsync.folder.place import IsOurs, Place
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import Stat
from meshsync.limits import FOLDER_READ_WINDOW_BYTES
from meshsync.runtime import Runtime


def staged_name(handout: Folder) -> bytes:
    """Return the name of the file while it is being made: hidden, and nobody else's."""
    return b".meshsync-file-" + handout.id.hex()[:20].encode()


class There(enum.Enum):
    """What lies where the file was put."""

    NOT_YET = "it was not put there yet"
    AS_PLACED = "what was put there"
    CHANGED = "what its user made of it"
    NOTHING = "nothing: its user moved it away, or its disk is gone"


def look(taken: Taken) -> There:
    """Return what lies where the file was put. Blocking."""
    if not taken.placed:
        return There.NOT_YET
    try:
        found = os.lstat(place_of(taken))
    except OSError:
        return There.NOTHING
    is_same = (found.st_ino, found.st_size, found.st_mtime_ns) == (taken.inode, taken.size, taken.mtime_ns)
    return There.AS_PLACED if is_same else There.CHANGED


async def take(runtime: Runtime, handout: Folder) -> bool:
    """Put the newest version in place if it is not; return whether that was done. Raises ResourceError.

    Nothing is done for a file that was put there before and is not there now, nor while the handout's own copy is not
    what its sharer gives: a copy that was changed here makes way first, and its content is nobody's.
    """
    taken = handout.handout
    assert isinstance(taken, Taken)
    row = holds_file(handout)
    if row is None or handout.joining or pack_content(row.content) == taken.content:
        return False
    face = handout.replica.view.face(row.node)
    if face is None or face.content != row.content:
        return False
    try:
        with Place(taken.directory, staged_name(handout), Syscalls()) as place:
            taken = await _recovered(runtime, handout, place, taken)
            packed = pack_content(row.content)
            is_moved_away = taken.placed and await runtime.in_thread(place.stat, taken.placed) is None
            if packed == taken.content or is_moved_away:
                return False
            await runtime.in_thread(place.begin)
            async for piece in content_pieces(runtime, handout, row.content, handout.name):
                await runtime.in_thread(place.write, piece)
            stat = await runtime.in_thread(place.complete, row.executable, row.mtime_ns, taken.placed)
            await _put(runtime, handout, place, taken, stat, packed)
    except OSError as error:
        what = f"the file cannot be put in place: {error.strerror or error}"
        raise ResourceError(what, path=os.fsdecode(place_of(taken))) from error
    return True


async def _put(runtime: Runtime, handout: Folder, place: Place, taken: Taken, stat: Stat, packed: bytes) -> None:
    """Put the staged file in place: over the version before it if that is unchanged, else under a free name."""
    old = taken.placed
    is_unchanged = await runtime.in_thread(_is_as_placed, place, taken)
    if old and is_unchanged:
        await _intend(handout, taken, old, stat, packed)
        ours = _is_ours(handout, taken.content)
        aside = await runtime.in_thread(place.put_over, old, ours, list(names(taken.name)))
        await _placed(handout, taken, aside or old, stat, packed)
        return
    for name in names(taken.name):
        await _intend(handout, taken, name, stat, packed)
        if await runtime.in_thread(place.put_new, name):
            await _placed(handout, taken, name, stat, packed)
            return
    raise FileExistsError("all names like it are taken")


async def _recovered(runtime: Runtime, handout: Folder, place: Place, taken: Taken) -> Taken:
    """Finish what an end of the agent interrupted; return the note as it is then."""
    if taken.coming:
        name = taken.coming
        found = await runtime.in_thread(place.stat, name)
        if found is not None and found.inode == taken.coming_inode:
            ours = _is_ours(handout, taken.content)
            await runtime.in_thread(place.leftover, ours, list(names(taken.name)))
            return await _placed(handout, taken, name, found, taken.coming_content)
    staged = await runtime.in_thread(place.stat, staged_name(handout))
    if staged is not None and (not taken.coming or staged.inode == taken.coming_inode):
        await runtime.in_thread(place.remove_staged)
    elif staged is not None:
        await runtime.in_thread(place.leftover, _is_ours(handout, taken.content), list(names(taken.name)))
    return taken


async def _intend(handout: Folder, taken: Taken, name: bytes, stat: Stat, packed: bytes) -> None:
    note = msgspec.structs.replace(taken, coming=name, coming_inode=stat.inode, coming_content=packed)
    await handout.note_handout(note)


async def _placed(handout: Folder, taken: Taken, name: bytes, stat: Stat, packed: bytes) -> Taken:
    note = Taken(
        taken.directory,
        taken.name,
        placed=name,
        inode=stat.inode,
        size=stat.size,
        mtime_ns=stat.mtime_ns,
        content=packed,
    )
    await handout.note_handout(note)
    return note


def _is_as_placed(place: Place, taken: Taken) -> bool:
    found = place.stat(taken.placed) if taken.placed else None
    return found is not None and (found.inode, found.size, found.mtime_ns) == (
        taken.inode,
        taken.size,
        taken.mtime_ns,
    )


def _is_ours(handout: Folder, packed: bytes) -> IsOurs:
    """Return what tells whether an open file has exactly this content; looked at where its times may deceive."""
    keys, params = handout.keys(), handout.cut_params

    def is_ours(file: int) -> bool:
        if not packed or os.fstat(file).st_size != unpack_content(packed).size:
            return False
        os.lseek(file, 0, os.SEEK_SET)
        windows = iter(lambda: os.read(file, FOLDER_READ_WINDOW_BYTES), b"")
        return content_of(windows, keys, params)[0] == unpack_content(packed)

    return is_ours
