"""What must be true of a mesh at rest. Each check raises `Wrong` with words for people."""

from __future__ import annotations

from typing import Any

from meshsync.content.record import Kind
from meshsync.folder import attributes, control
from meshsync.folder.names import CONTROL_NAME
from meshsync.folder.spare import SPARE_NAME
from meshsync.ids import Dot
from tests.sim.book import Book
from tests.sim.device import SimDevice
from tests.sim.disk import Inode
from tests.sim.users import Path, User, show

Tree = dict[Path, tuple[Any, ...]]


class Wrong(AssertionError):
    """A promise is broken."""


def tree(user: User) -> Tree:
    """Return what a user sees: bytes, exec bits and mtimes of files, targets of links."""
    return {path: seen(inode) for path, inode in user.walk()}


def seen(inode: Inode) -> tuple[Any, ...]:
    """Return what a user sees of one object."""
    if inode.is_file:
        return ("file", bytes(inode.data), attributes.executable(inode.mode), inode.mtime_ns)
    return ("link", inode.target) if inode.is_link else ("directory",)


def same_trees(trees: dict[str, Tree]) -> None:
    """All trees are equal."""
    (first_name, first), *others = trees.items()
    for name, other in others:
        differing = sorted(path for path in first.keys() | other.keys() if first.get(path) != other.get(path))
        if differing:
            path = differing[0]
            raise Wrong(
                f"{first_name} and {name} differ at {', '.join(map(show, differing))}: "
                f"{_short(first.get(path))} here, {_short(other.get(path))} there"
            )


def _short(thing: tuple[Any, ...] | None) -> str:
    text = repr(thing)
    return text if len(text) < 160 else f"{text[:90]}…{text[-40:]}"


def nothing_lost(book: Book, trees: dict[str, Tree]) -> None:
    """Every content that a user wrote and nobody gave up is in every tree."""
    for name, one in trees.items():
        lost = book.lost({item[1] for item in one.values() if item[0] == "file"})
        if lost:
            content, by = next(iter(lost.items()))
            raise Wrong(f"{name} has not what {by} wrote: {content[:60]!r}")


def nothing_torn(book: Book, device: SimDevice, user: User) -> None:
    """Every file holds a content that some user completed."""
    for path, inode in user.walk():
        if inode.is_file and inode.data and bytes(inode.data) not in book.written:
            raise Wrong(f"device {device.number} shows {show(path)} torn: {bytes(inode.data)[:60]!r}")


def nothing_staged(device: SimDevice) -> None:
    """Nothing is left in the control directory but the marker, an empty staging area, and what may be needed again."""
    area = device.disk.root.entries[CONTROL_NAME]
    left = set(area.entries) - {control.MARKER_NAME, control.STAGING_NAME, SPARE_NAME}
    left |= set(area.entries[control.STAGING_NAME].entries)
    assert device.folder is not None
    view, spare = device.folder.replica.view, area.entries.get(SPARE_NAME)
    for name in () if spare is None else spare.entries:
        version = view.version(Dot(bytes.fromhex(name.decode())))
        if version is None or not version.live:
            left.add(name)
    if left:
        raise Wrong(f"device {device.number} has left {sorted(left)} in its control directory")


def equal_to_view(device: SimDevice, shown: Tree) -> None:
    """The tree on disk is what the view shows."""
    folder = device.folder
    assert folder is not None
    rows = {path: row for row in folder.rows() if row.order == 0 and (path := folder.synced.path_of(row.node))}
    if rows.keys() != shown.keys():
        raise Wrong(f"device {device.number}: rows and disk differ at {sorted(rows.keys() ^ shown.keys())}")
    for path, row in rows.items():
        kind = {Kind.FILE: "file", Kind.LINK: "link", Kind.DIRECTORY: "directory"}[row.kind]
        if shown[path][0] != kind:
            raise Wrong(f"device {device.number}: {show(path)} is a {shown[path][0]}, its row a {kind}")


def nobody_accused(device: SimDevice) -> None:
    """No relay and no device is said to have signed two truths: in a simulation none does."""
    folder = device.folder
    assert folder is not None
    accused = [*folder.watch.convicted.values(), *folder.watch.doubts.values(), *folder.replica.chains.alarms()]
    if accused:
        raise Wrong(f"device {device.number} accuses somebody who did nothing wrong: {accused[0]}")


def durable_at_relay(device: SimDevice, relay: Any) -> None:
    """What a receipt covers is at the relay."""
    folder = device.folder
    assert folder is not None
    held = relay.log.get(folder.id)
    if held is None:
        if folder.replica.chains.heads():
            raise Wrong(f"device {device.number} has entries of a folder that the relay does not know")
        return
    for (record,) in folder.database.execute("SELECT id FROM stored WHERE receipt IS NOT NULL"):
        if record not in held.known:
            raise Wrong(f"device {device.number} holds a receipt for a record that the relay has not")
    for blob, at in held.blobs.items():
        if at.pinned and blob not in relay.blobs:
            raise Wrong("the relay lost a blob that a stored record names")
