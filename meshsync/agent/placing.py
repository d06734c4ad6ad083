"""Putting back what was, on this disk, as the user's hand would: by changes of files that the next look then publishes.

Invariant: each step replaces or removes exactly what the last look saw and what the log knows, in one step, with what
lay there set aside before. Called within a turn of the folder's loop, when no plan is at work. Calls block.
"""

from __future__ import annotations

from meshsync.agent.observer import display
from meshsync.agent.past import Was
from meshsync.agent.resolver import Resolver, require
from meshsync.content.record import Content, Kind
from meshsync.errors import ConfigError, TransientError
from meshsync.folder.apply import Applier
from meshsync.folder.aside import set_aside
from meshsync.folder.root import Root
from meshsync.folder.staging import StagedFile
from meshsync.folder.types import Changed, Done
from meshsync.folder.types import Stat as DiskStat
from meshsync.sync.disk_rows import LocalRow, Path
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.synced_tree import SyncedTree


class Placer:
    """Belongs to one folder. `verifier` reads back what was staged."""

    def __init__(self, root: Root, applier: Applier, local: LocalTree, synced: SyncedTree, verifier: Resolver) -> None:
        self._root = root
        self._applier = applier
        self._local = local
        self._synced = synced
        self._verifier = verifier

    def is_so(self, was: Was) -> bool:
        """Tell whether the last look saw at the path what was there: kind, content and exec bit. Does not block."""
        found = self._local.at(was.path)
        if found is None or found.content != was.content:
            return False
        return found.kind is not Kind.FILE or found.executable == was.executable

    def needs_content(self, was: Was) -> bool:
        """Tell whether a file has to be staged to put back what was. Does not block."""
        found = self._local.at(was.path)
        return was.content.kind is Kind.FILE and (found is None or found.content != was.content)

    def create(self, was: Was) -> StagedFile:
        """Return a file to write the content into. Raises StorageFull, ResourceError."""
        return self._applier.staging.create(was.content.size)

    def finish(self, was: Was, staged: StagedFile) -> None:
        """Make a staged file durable and check it. Raises IntegrityError, ResourceError, TransientError."""
        blocked = self._applier.finish(
            was.path, staged, was.executable, was.mtime_ns, lambda file: self._verifier.verify(file, was.content)
        )
        if blocked is not None:
            require(blocked, was.path)

    def make_directories(self, path: Path, label: bytes) -> list[Path]:
        """Make the directory `path` and those above it; a file in the way is set aside under `label`.

        Returns what was made. Raises TransientError, ResourceError.
        """
        made: list[Path] = []
        for depth in range(1, len(path) + 1):
            at = path[:depth]
            found = self._local.at(at)
            if found is not None and found.kind is Kind.DIRECTORY:
                continue
            expected = None if found is None else self._keep(at, found, label)
            outcome = self._applier.make_directory(at, expected)
            if isinstance(outcome, Changed) and expected is None and self._is_directory(at):
                continue  # of a step before, which no look has seen yet
            require(outcome, at)
            made.append(at)
        return made

    def put(self, was: Was, staged: StagedFile | None, label: bytes) -> None:
        """Put back a file or link, whose directory is there; what lies at the path is set aside under `label`.

        Raises ConfigError (a directory lies there), TransientError (somebody changes it), ResourceError; then the path
        is as it was.
        """
        found = self._local.at(was.path)
        if found is not None and found.kind is Kind.DIRECTORY:
            raise ConfigError(
                "a directory lies there now", path=display(was.path), next_step="Restore it elsewhere: --to DIR"
            )
        if staged is None and was.content.kind is Kind.FILE:
            assert found is not None, "what is there needs no content"
            require(self._applier.set_attributes(was.path, DiskStat(*found.stat), was.executable), was.path)
            return
        expected = None if found is None else self._keep(was.path, found, label)
        if staged is None:
            require(self._applier.make_link(was.path, was.content.target, was.mtime_ns, expected), was.path)
        else:
            require(self._applier.replace(was.path, staged, expected), was.path)

    def content_at(self, path: Path) -> Content | None:
        """Return what the last look saw at `path`, None for nothing. Does not block."""
        found = self._local.at(path)
        return None if found is None else found.content

    def remove(self, path: Path, label: bytes) -> bool:
        """Remove the file or link at `path`, which is set aside under `label`, or the empty directory there.

        Returns whether anything was there. Raises TransientError (somebody changes it), ResourceError (a directory
        holds what is not synced, among others); then the path is as it was.
        """
        found = self._local.at(path)
        if found is None:
            return False
        if found.kind is Kind.DIRECTORY:
            require(self._applier.remove_directory(path, DiskStat(*found.stat)), path)
        else:
            require(self._applier.remove_file(path, self._keep(path, found, label)), path)
        return True

    def _keep(self, at: Path, found: LocalRow, label: bytes) -> DiskStat:
        """Set aside what lies at `at`, which stays there; return what it is now."""
        rows = self._synced.at(at)
        if not rows or rows[0].content != found.content:
            raise TransientError("the file was changed just now; it stays as it is", path=display(at))
        outcome = set_aside(self._root, at, label, DiskStat(*found.stat), stays=True)
        require(outcome, at)
        assert isinstance(outcome, Done) and outcome.stat is not None
        return outcome.stat

    def _is_directory(self, at: Path) -> bool:
        try:
            with self._root.directory(at):
                return True
        except OSError:
            return False


def directory_above(was: Was) -> Path:
    """Return the directory that has to be there for what was: its own path if it was a directory."""
    return was.path if was.content == Content(Kind.DIRECTORY) else was.path[:-1]
