"""Ending a conflict on this disk, as the user's hand would: by changes of files that the next look then publishes.

Invariant: each step replaces or removes exactly what the last look saw, in one step, with what loses set aside before;
a path is never empty on the way. A crash between two steps leaves every value in the tree or set aside, and the
conflict, or an ordinary file of the copy's name. Called within a turn of the folder's loop, when no plan is at work.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from meshsync.agent.in_conflict import InConflict
from meshsync.agent.kept import content_of
from meshsync.agent.observer import display
from meshsync.chunking.cut import CutParams, Cutter
from meshsync.content.record import Content, Kind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import ChunkMismatch, ConfigError, ResourceError, TextsClash, TransientError
from meshsync.folder.apply import Applier
from meshsync.folder.aside import kept_path, set_aside
from meshsync.folder.reader import Buffer, Read, read_file
from meshsync.folder.root import Root
from meshsync.folder.staging import StagedFile
from meshsync.folder.types import Blocked, Changed, Done, Outcome
from meshsync.folder.types import Stat as DiskStat
from meshsync.limits import FOLDER_READ_WINDOW_BYTES, HELD_ID_BYTES, MERGE_BYTES_MAX, PLAIN_NAME_TRIES
from meshsync.runtime import Runtime
from meshsync.sync.disk_rows import LocalRow, Path, SyncedRow
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.names import marked_name
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.text_merge import Merge, is_text, merge

_AGAIN = "Type it again; meshsync conflicts shows how things are now."


class Winner(enum.Enum):
    """What stays."""

    MINE = "mine"
    THEIRS = "theirs"
    BOTH = "both"
    MERGED = "merged"


@dataclass(slots=True)
class Resolved:
    """What was done: `now` paths are there, `lost` versions are not: they lie in `kept_in`."""

    now: list[Path] = field(default_factory=list)
    lost: list[tuple[Path, SyncedRow]] = field(default_factory=list)
    kept_in: Path = ()
    touched: list[Path] = field(default_factory=list)


class Resolver:
    """Belongs to one folder. Calls block, except `check`; nothing else may change the tree meanwhile but its user."""

    def __init__(
        self,
        runtime: Runtime,
        root: Root,
        applier: Applier,
        local: LocalTree,
        synced: SyncedTree,
        keys: Callable[[], FolderKeys],
        params: CutParams,
    ) -> None:
        self._runtime = runtime
        self._root = root
        self._applier = applier
        self._local = local
        self._synced = synced
        self._keys = keys
        self._params = params

    def check(self, conflict: InConflict, winner: Winner) -> None:
        """Return if `winner` can be brought about. Raises ConfigError, TransientError."""
        path, present = display(conflict.path), conflict.present
        named = [display(copy) for copy, _ in conflict.copies]
        kinds = {row.kind for _, row in conflict.copies}
        if winner in (Winner.THEIRS, Winner.MERGED) and len(conflict.copies) > 1:
            raise ConfigError(
                f"there are {len(named)} copies: say which", path=path, next_step=f"Name one of: {', '.join(named)}"
            )
        if winner in (Winner.MINE, Winner.MERGED) and present is None:
            raise ConfigError("nothing lies at the path", path=path, next_step="Keep theirs, or both.")
        if Kind.DIRECTORY in kinds and winner is not Winner.BOTH:
            raise ConfigError("a copy is a directory", path=named[0], next_step="Keep both, then move what is in it.")
        if winner is Winner.THEIRS and present is not None and present.kind is Kind.DIRECTORY:
            raise ConfigError("a directory lies at the path", path=path, next_step="Keep mine, or both.")
        if winner is Winner.MERGED and (kinds | {present.kind if present else Kind.LINK}) != {Kind.FILE}:
            raise ConfigError("only files can be merged", path=path, next_step="Keep mine, theirs or both.")
        for at, row in ((conflict.path, present), *conflict.copies):
            if row is not None:
                self._seen(at, row)

    def resolve(self, conflict: InConflict, winner: Winner, device: str, base: bytes | None = None) -> Resolved:
        """Have `winner` stay; `device` names a copy that becomes an ordinary file, `base` is what a merge starts from.

        Raises TextsClash, ConfigError, TransientError (somebody changed a file meanwhile), ResourceError; what was
        done before an error stays, and what it concerns is as it was.
        """
        self.check(conflict, winner)
        done = Resolved(kept_in=kept_path(self._runtime.random_bytes(HELD_ID_BYTES).hex().encode()))
        if winner is Winner.BOTH:
            for at, row in conflict.copies:
                self._make_ordinary(conflict, at, row, device, done)
        elif winner is Winner.MINE:
            for at, row in conflict.copies:
                self._take_out(at, row, done)
        else:
            self._put(conflict, winner, base, done)
        if conflict.present is not None:
            done.now.insert(0, conflict.path)
        if not done.lost:
            done.kept_in = ()
        return done

    def merged(self, conflict: InConflict, base: bytes) -> Merge:
        """Return both sides merged. Raises TextsClash if they are no text, TransientError if one changed."""
        assert conflict.present is not None
        ((at, row),) = conflict.copies
        mine, theirs = self._read(conflict.path, conflict.present), self._read(at, row)
        found = None
        if all(map(is_text, (base, mine, theirs))):
            found = merge(base, mine, theirs, (conflict.path[-1], at[-1]))
        if found is None:
            raise TextsClash(
                "this cannot be merged: it is no text, too large, or too much of it differs",
                path=display(conflict.path),
                next_step="Keep mine, theirs or both.",
            )
        return found

    def _put(self, conflict: InConflict, winner: Winner, base: bytes | None, done: Resolved) -> None:
        """Give the path the copy's content, or the merge, and take the copy out."""
        ((at, row),) = conflict.copies
        data = None
        if winner is Winner.MERGED:
            assert base is not None
            made = self.merged(conflict, base)
            if made.clashes:
                raise TextsClash(
                    f"both sides changed the same lines, at {made.clashes} places",
                    path=display(conflict.path),
                    next_step="Add --to FILE to have it written there with markers; all stays as it is.",
                )
            data = made.text
        present = conflict.present
        if present is None:
            require(self._applier.move(at, conflict.path, self._seen(at, row)), at)
            done.touched += [at, conflict.path]
            done.now.append(conflict.path)
            return
        done.touched.append(conflict.path)
        if row.kind is Kind.LINK:
            expected = self._keep(conflict.path, present, done)
            outcome = self._applier.make_link(conflict.path, row.content.target, row.mtime_ns, expected)
        else:
            staged = self._staged(conflict.path, at, row, data)
            try:
                expected = self._keep(conflict.path, present, done)
                outcome = self._applier.replace(conflict.path, staged, expected)
            finally:
                staged.discard()
        require(outcome, conflict.path)
        done.lost.append((conflict.path, present))
        if winner is Winner.MERGED:
            self._take_out(at, row, done)
        else:
            require(self._applier.remove_file(at, self._seen(at, row)), at)
            done.touched.append(at)

    def _staged(self, path: Path, at: Path, row: SyncedRow, data: bytes | None) -> StagedFile:
        """Return a file ready for `path`, of `data` or of what lies at `at`."""
        size = row.content.size if data is None else len(data)
        staged = self._applier.staging.create(size)
        try:
            content = self._copy(at, row, staged) if data is None else self._write(data, staged)
            mtime_ns = row.mtime_ns if data is None else self._runtime.wall_time_ns()
            blocked = self._applier.finish(
                path, staged, row.executable, mtime_ns, lambda file: self.verify(file, content)
            )
            if blocked is not None:
                require(blocked, path)
        except BaseException:
            staged.discard()
            raise
        return staged

    def _copy(self, at: Path, row: SyncedRow, staged: StagedFile) -> Content:
        offset = 0

        def take(piece: Buffer) -> None:
            nonlocal offset
            if offset + len(piece) <= staged.size:
                staged.write(offset, bytes(piece))
            offset += len(piece)

        self._read_into(at, row, take)
        if offset != staged.size:
            require(Changed(None), at)
        return row.content

    def _write(self, data: bytes, staged: StagedFile) -> Content:
        if data:
            staged.write(0, data)
        return content_of([data], self._keys(), self._params)[0]

    def verify(self, staged: StagedFile, content: Content) -> None:
        """Return if what was staged reads back as `content`. Raises ChunkMismatch, ResourceError."""
        windows = range(0, staged.size, FOLDER_READ_WINDOW_BYTES)
        found = content_of(
            (staged.read(at, min(FOLDER_READ_WINDOW_BYTES, staged.size - at)) for at in windows),
            self._keys(),
            self._params,
        )[0]
        if found != content:
            raise ChunkMismatch("what was written is not what was read")

    def _read(self, at: Path, row: SyncedRow) -> bytes:
        """Return the bytes of a file that is as it was seen; of one too large to merge its beginning."""
        parts: list[bytes] = []
        if row.content.size > MERGE_BYTES_MAX:
            return b"\0"
        self._read_into(at, row, lambda piece: parts.append(bytes(piece)))
        data = b"".join(parts)
        if content_of([data], self._keys(), self._params)[0] != row.content:
            require(Changed(None), at)
        return data

    def _read_into(self, at: Path, row: SyncedRow, take: Callable[[Buffer], None]) -> None:
        """Read the file that the last look saw at `at`. Raises TransientError if it is another now, ResourceError."""
        cutter = Cutter(self._keys().cut_seed, self._params)
        outcome = read_file(self._root, at, cutter, take, self._runtime.wall_time_ns)
        if not isinstance(outcome, Read):
            require(outcome, at)
        elif outcome.stat != self._seen(at, row):
            require(Changed(outcome.stat), at)

    def _make_ordinary(self, conflict: InConflict, at: Path, row: SyncedRow, device: str, done: Resolved) -> None:
        name = row.natural if row.copy_of is None else conflict.path[-1]
        for number in range(1, PLAIN_NAME_TRIES + 1):
            target = (*at[:-1], marked_name(name, _mark(device, number)))
            if self._local.at(target) is None:
                break
        else:
            raise ConfigError("no plain name is free", path=display(at), next_step="Rename the copy yourself.")
        require(self._applier.move(at, target, self._seen(at, row)), at)
        done.touched += [at, target]
        done.now.append(target)

    def _take_out(self, at: Path, row: SyncedRow, done: Resolved) -> None:
        expected = self._keep(at, row, done)
        done.touched.append(at)
        require(self._applier.remove_file(at, expected), at)
        done.lost.append((at, row))

    def _keep(self, at: Path, row: SyncedRow, done: Resolved) -> DiskStat:
        """Set aside what lies at `at`, which stays there; return what it is now."""
        outcome = set_aside(self._root, at, done.kept_in[-1], self._seen(at, row), stays=True)
        require(outcome, at)
        assert isinstance(outcome, Done) and outcome.stat is not None
        return outcome.stat

    def _seen(self, at: Path, row: SyncedRow) -> DiskStat:
        """Return what the last look saw at `at`. Raises TransientError unless that is what the row says."""
        found: LocalRow | None = self._local.at(at)
        if found is None or found.content != row.content:
            require(Changed(None), at)
        assert found is not None
        return DiskStat(*found.stat)


def require(outcome: Outcome, at: Path) -> None:
    """Return if `outcome` is Done. Raises TransientError if a user was faster, ResourceError if the disk refuses."""
    if isinstance(outcome, Changed):
        raise TransientError("the file was changed just now; it stays as it is", path=display(at), next_step=_AGAIN)
    if isinstance(outcome, Blocked):
        why = f"{outcome.reason.value}{': ' if outcome.detail else ''}{outcome.detail}"
        raise ResourceError(f"the file cannot be changed: {why}", path=display(at))


def _mark(device: str, number: int) -> bytes:
    """Return what a plain name says of where a copy came from: ` (desk)`, then ` (desk 2)`."""
    kept = "".join(letter for letter in device if letter.isprintable() and letter not in '/\\:*?"<>|')
    shown = kept.strip()[:32] or "other"
    return (f" ({shown})" if number == 1 else f" ({shown} {number})").encode("utf-8", "surrogateescape")
