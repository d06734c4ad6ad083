"""A power cut at any moment of putting a shared file in place: nothing is lost, doubled or left lying about."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from meshsync.agent.handout import Taken
from meshsync.agent.handout_note import read_note, write_note
from meshsync.agent.taking import staged_name
from meshsync.index.database import Database
from meshsync.index.meta import Meta
from tests.support.handout_scene import BODY, handed, save, state

NEW = b"second"


class Stopped:
    """The holder's note and files while its agent is off."""

    def __init__(self, index: Path, tree: Path, staged: str) -> None:
        self.index, self.path, self.staged = index, tree / "plan.txt", tree / staged

    def note(self, **changes: object) -> None:
        """Change some fields of what the agent noted last."""
        database = Database(self.index)
        note = read_note(Meta(database))
        assert isinstance(note, Taken)
        write_note(database, Meta(database), msgspec.structs.replace(note, **changes))
        database.close()

    def intended(self, place: Path, content: bytes) -> None:
        """Note that the file at `place` was about to be put in place; `content` is its packed content."""
        self.note(coming=b"plan.txt", coming_inode=place.stat().st_ino, coming_content=content)


def half_written(at: Stopped, newest: bytes) -> None:
    at.staged.write_bytes(NEW[:3])


def before_the_exchange(at: Stopped, newest: bytes) -> None:
    at.staged.write_bytes(NEW)
    at.intended(at.staged, newest)


def after_the_exchange(at: Stopped, newest: bytes) -> None:
    at.path.rename(at.staged)
    at.path.write_bytes(NEW)
    at.intended(at.path, newest)


def after_the_exchange_took_an_edit_out(at: Stopped, newest: bytes) -> None:
    at.staged.write_bytes(b"my notes")
    at.path.write_bytes(NEW)
    at.intended(at.path, newest)


def after_the_old_version_was_removed(at: Stopped, newest: bytes) -> None:
    at.path.unlink()
    at.path.write_bytes(NEW)
    at.intended(at.path, newest)


def before_the_first_was_noted(at: Stopped, newest: bytes) -> None:
    at.path.write_bytes(NEW)
    at.note(placed=b"", content=b"", inode=0, size=0, mtime_ns=0)
    at.intended(at.path, newest)


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        (half_written, set()),
        (before_the_exchange, set()),
        (after_the_exchange, set()),
        (after_the_exchange_took_an_edit_out, {b"my notes"}),
        (after_the_old_version_was_removed, set()),
        (before_the_first_was_noted, set()),
    ],
)
async def test_after_a_power_cut_the_newest_is_in_place_once_and_an_edit_beside_it(
    tmp_path: Path, cut: object, kept: set[bytes]
) -> None:
    async with handed(tmp_path) as (mesh, laptop, desk):
        save(laptop.tree / "plan.txt", NEW)
        await mesh.until(lambda: desk.files() == {"plan.txt": NEW})
        await state(mesh, desk, "up to date")
        (handout,) = desk.agent.folders.values()
        assert isinstance(handout.handout, Taken)
        newest, old = handout.handout.content, _packed_as(handout, BODY)
        at = Stopped(handout.home.index, desk.tree, staged_name(handout).decode())
        await mesh.stop(desk)
        at.path.write_bytes(BODY)
        found = at.path.stat()
        at.note(content=old, inode=found.st_ino, size=found.st_size, mtime_ns=found.st_mtime_ns)
        assert callable(cut)
        cut(at, newest)
        again = await mesh.restart(desk)
        await mesh.until(lambda: at.path.read_bytes() == NEW and not at.staged.exists())
        await state(mesh, again, "up to date")
        files = desk.files()
        assert files.pop("plan.txt") == NEW and set(files.values()) == kept
        assert len(files) == len(kept)


def _packed_as(handout: object, body: bytes) -> bytes:
    """Return the packed content that `body` is in a handout."""
    from meshsync.agent.folder import Folder
    from meshsync.agent.history import pack_content
    from meshsync.agent.kept import content_of

    assert isinstance(handout, Folder)
    return pack_content(content_of([body], handout.keys(), handout.cut_params)[0])
