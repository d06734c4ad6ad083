"""A device whose disk is a dictionary: its user acts, it records operations (`semantics.md` 2), receives, applies.

Invariant: an operation names what lies on this disk, whatever has been received meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from meshsync.content.record import Attr, Content, Drop, Dropped, Keep, Kind, Op, Place, Put
from meshsync.ids import ROOT, ChainId, DeviceId, Dot, NodeId, dot
from meshsync.sync.delivered import DeliveredEntry

from .view_model import DIRECTORY, Shown, ViewModel, flatten

Path = tuple[bytes, ...]


@dataclass(frozen=True)
class Row:
    """A node as it was put on the disk. `natural` differs from the name on disk where that is a derived one."""

    node: NodeId
    versions: tuple[Dot, ...]
    placement: Dot | None
    parent: NodeId
    natural: bytes
    copy_of: NodeId | None


@dataclass(frozen=True)
class Item:
    """One path of the disk."""

    rows: tuple[Row, ...]
    content: Content
    executable: bool
    mtime_ns: int


def item_of(shown: Shown) -> Item:
    """Return what a disk holds after applying `shown`."""
    rows = tuple(Row(f.node, f.versions, f.spot.placement, f.spot.parent, f.spot.name, f.copy_of) for f in shown.faces)
    return Item(rows, shown.face.content, shown.face.executable, shown.face.mtime_ns)


class DeviceModel:
    """One device. `received` holds the entries that it has, its own included, in the order of arrival."""

    def __init__(self, number: int) -> None:
        self.device = DeviceId(bytes([number]) * 32)
        self.chain = ChainId(bytes([0x80 + number]) * 32)
        self.seq = 0
        self.time = 0
        self.received: dict[tuple[ChainId, int], DeliveredEntry] = {}
        self.disk: dict[Path, Item] = {}
        self.fresh = True  # the disk shows all that was received
        self._ops: list[Op] = []

    def receive(self, entries: list[DeliveredEntry]) -> None:
        """Take entries in causal order."""
        for entry in entries:
            if (entry.chain, entry.seq) not in self.received:
                self.received[entry.chain, entry.seq] = entry
                self.time = max(self.time, entry.time)
                self.fresh = False

    def view(self) -> dict[Path, Shown]:
        return flatten(ViewModel(self.received.values()).root)

    def apply(self) -> None:
        """Make the disk equal to the view of everything received."""
        self.disk = {path: item_of(shown) for path, shown in self.view().items()}
        self.fresh = True

    def shows(self) -> dict[Path, tuple[Content, bool]]:
        return {path: (item.content, item.executable) for path, item in self.disk.items()}

    def mtimes(self) -> dict[Path, int]:
        return {path: item.mtime_ns for path, item in self.disk.items()}

    # --- what a user does ------------------------------------------------------------------------------------

    def create(self, path: Path, content: Content, executable: bool = False) -> None:
        assert path not in self.disk
        parent = self._revive(path)
        name = self._next()
        mtime_ns = self._new_mtime(content)
        self._ops.append(Put(None, content, executable, mtime_ns, (), parent, path[-1], path))
        row = Row(NodeId(name), (name,), name, parent, path[-1], None)
        self.disk[path] = Item((row,), content, executable, mtime_ns)
        self._commit()

    def put_unseen(self, path: Path, node: NodeId, content: Content) -> None:
        """A file at the root that was here before the device joined, where the log has `node`."""
        name, mtime_ns = self._next(), self._new_mtime(content)
        self._ops.append(Put(node, content, False, mtime_ns, (), ROOT, path[-1], path))
        self.disk[path] = Item((Row(node, (name,), Dot(node), ROOT, path[-1], None),), content, False, mtime_ns)
        self._commit()

    def edit(self, path: Path, content: Content) -> None:
        """Write `content`, equal to what is there for a touch."""
        item = self.disk[path]
        self._revive(path)
        keeps = self._keeps([path], staying=True)
        first, *others = item.rows
        name, mtime_ns = self._next(), self._new_mtime(content)
        executable = item.executable and content.kind is Kind.FILE
        self._ops.append(
            Put(first.node, content, executable, mtime_ns, first.versions, first.parent, path[-1], path, keeps)
        )
        if others:
            self._ops.append(Drop(tuple(Dropped(r.node, r.versions, r.placement, -1) for r in others)))
        if content.kind is not item.content.kind:
            self._ops.append(Attr(first.node, executable))
        row = Row(first.node, (name,), first.placement, first.parent, path[-1], None)
        self.disk[path] = Item((row,), content, executable, mtime_ns)
        self._commit()

    def set_executable(self, path: Path, executable: bool) -> None:
        item = self.disk[path]
        self._revive(path)
        self._ops += [Attr(row.node, executable) for row in item.rows]
        self.disk[path] = replace(item, executable=executable)
        self._commit()

    def rename(self, source: Path, target: Path) -> None:
        assert target not in self.disk and target[: len(source)] != source
        self._revive(source)
        parent = self._revive(target)
        keeps = self._keeps([source], staying=False)
        carries = tuple(dict.fromkeys(v for path in self._at_and_below(source) for v in self._versions(path)))
        rows = []
        for row in self.disk[source].rows:
            rows.append(Row(row.node, row.versions, self._next(), parent, target[-1], None))
            self._ops.append(Place(row.node, parent, target[-1], carries, target, keeps))
        for path in self._at_and_below(source):
            item = self.disk.pop(path)
            self.disk[target + path[len(source) :]] = replace(item, rows=tuple(rows)) if path == source else item
        self._commit()

    def delete(self, path: Path) -> None:
        self._revive(path)
        paths = self._at_and_below(path)
        keeps = self._keeps(paths, staying=False)
        at: dict[NodeId, int] = {}
        items: list[Dropped] = []
        for each in paths:
            for row in self.disk[each].rows:
                at[row.node] = len(items)
                items.append(Dropped(row.node, row.versions, row.placement, at.get(row.parent, -1)))
        self._ops.append(Drop(tuple(items), keeps))
        for each in paths:
            del self.disk[each]
        self._commit()

    # --- how it is recorded ----------------------------------------------------------------------------------

    def _next(self) -> Dot:
        return dot(self.chain, self.seq + 1, len(self._ops))

    def _new_mtime(self, content: Content) -> int:
        """An mtime that no other put has; 0 for a directory, whose mtime is not kept."""
        return 0 if content == DIRECTORY else (self.seq + 1) << 8 | self.device[0]

    def _versions(self, path: Path) -> list[Dot]:
        return [v for row in self.disk[path].rows for v in row.versions]

    def _at_and_below(self, top: Path) -> list[Path]:
        return sorted(path for path in self.disk if path[: len(top)] == top)

    def _revive(self, path: Path) -> NodeId:
        """Put every dropped directory above `path` again; return the node that new children are placed in."""
        parent = ROOT
        for depth in range(1, len(path)):
            item = self.disk[path[:depth]]
            assert item.content == DIRECTORY
            living = [row for row in item.rows if row.versions]
            parent = living[0].node if living else item.rows[0].node
            if not living:
                row = item.rows[0]
                name = self._next()
                self._ops.append(Put(row.node, DIRECTORY, False, 0, (), row.parent, path[depth - 1], path[:depth]))
                rows = (replace(row, versions=(name,)), *item.rows[1:])
                self.disk[path[:depth]] = replace(item, rows=rows)
        return parent

    def _keeps(self, paths: list[Path], staying: bool) -> tuple[Keep, ...]:
        """Conflict copies of the nodes at `paths`, and second files of their names, that stay where they are."""
        acted = {row.node for path in paths for row in self.disk[path].rows}
        names = {(path[:-1], row.natural) for path in paths for row in self.disk[path].rows}
        keeps = []
        for path, item in sorted(self.disk.items()):
            for row in item.rows:
                if path in paths and (not staying or row.copy_of):
                    continue
                if row.copy_of in acted:
                    keeps.append(Keep(row.copy_of, row.versions[0], None, row.parent, path[-1]))
                elif (path[:-1], row.natural) in names and path[-1] != row.natural:
                    keeps.append(Keep(row.node, None, row.placement, row.parent, path[-1]))
                    rows = tuple(replace(r, natural=path[-1]) if r == row else r for r in self.disk[path].rows)
                    self.disk[path] = replace(self.disk[path], rows=rows)
        for keep in keeps:
            if keep.version is not None:
                self._own_copy(keep)
        return tuple(keeps)

    def _own_copy(self, keep: Keep) -> None:
        for path, item in self.disk.items():
            rows = tuple(
                replace(row, copy_of=None, natural=path[-1])
                if row.copy_of == keep.node and keep.version in row.versions
                else row
                for row in item.rows
            )
            self.disk[path] = replace(item, rows=rows)

    def _commit(self) -> None:
        self.seq += 1
        self.time += 1
        entry = DeliveredEntry(self.device, self.chain, self.seq, self.time, tuple(self._ops))
        self.received[entry.chain, entry.seq] = entry
        self._ops = []


def file(value: int) -> Content:
    """Return a file content that no other value equals."""
    return Content(Kind.FILE, value, value.to_bytes(32, "big"))


def link(value: int) -> Content:
    """Return a link content that no other value equals."""
    return Content(Kind.LINK, target=b"%d" % value)
