"""A folder on a real disk with a seam for faults: crash at call n, fail a call, let the user act before a call."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meshsync.folder import control
from meshsync.folder.apply import Applier
from meshsync.folder.ignore import IgnoreRules
from meshsync.folder.root import Root, open_root
from meshsync.folder.scan import Batch, Complete, scan, scan_paths
from meshsync.folder.staging import StagedFile, Staging
from meshsync.folder.syscalls import CHANGING, Syscalls
from meshsync.folder.types import Observed, Problem, RelativePath, Stat
from meshsync.ids import FolderId
from meshsync.runtime import SystemRuntime

FOLDER = FolderId(bytes(range(32)))
MTIME_NS = 1_700_000_000_123_456_789


class Crash(BaseException):
    """The process was killed here."""


class FaultySyscalls(Syscalls):
    """The real calls, with faults.

    `crash_at`: raise Crash instead of changing call number n (from 0) and at every call after it.
    `fails`: call name → errno to raise. `before`: call name → what happens, once, right before it.
    """

    def __init__(self, crash_at: int = -1) -> None:
        self.crash_at, self.calls = crash_at, 0
        self.dead = False
        self.fails: dict[str, int] = {}
        self.before: dict[str, Callable[[], None]] = {}

    def __getattribute__(self, name: str) -> Any:
        if name not in CALLS:
            return super().__getattribute__(name)
        call = super().__getattribute__(name)

        def faulty(*args: Any) -> Any:
            if name in CHANGING:
                self.dead = self.dead or self.calls == self.crash_at
                self.calls += 1
            if self.dead and name != "close":
                raise Crash
            act = self.before.pop(name, None)
            if act is not None:
                act()
            if name in self.fails:
                raise OSError(self.fails[name], os.strerror(self.fails[name]))
            return call(*args)

        return faulty


CALLS = frozenset(name for name in vars(Syscalls) if not name.startswith("_"))


class OldKernel(FaultySyscalls):
    """A system without openat2, renameat2 and birth times."""

    def __init__(self, crash_at: int = -1) -> None:
        super().__init__(crash_at)
        self.fails = {"open_beneath": errno.ENOSYS, "rename_new": errno.EINVAL, "exchange": errno.EINVAL}


class FolderTree:
    """A folder at `path` that tests read and write as its user, and the shell opens."""

    def __init__(self, path: Path, syscalls: Syscalls | None = None) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        control.create(os.fsencode(path), FOLDER, Syscalls())
        self.runtime = SystemRuntime(threads=1)
        self.open(syscalls or Syscalls())

    def open(self, syscalls: Syscalls) -> None:
        """Open the root as an agent that starts would."""
        root = open_root(os.fsencode(self.path), FOLDER, syscalls)
        assert isinstance(root, Root)
        self.root = root
        self.staging = Staging(root, self.runtime)
        self.applier = Applier(root, self.staging)

    def close(self) -> None:
        self.root.close()
        self.runtime.close()

    def stage(self, data: bytes, path: RelativePath = (b"f",), executable: bool = False) -> StagedFile:
        staged = self.staging.create(len(data))
        staged.write(0, data)
        assert self.applier.finish(path, staged, executable, MTIME_NS, lambda file: None) is None
        return staged

    def stat(self, *path: str) -> Stat:
        with self.root.directory(()) as fd:
            return Syscalls().status(fd, os.fsencode("/".join(path))).stat

    def staged_names(self) -> list[str]:
        return sorted(os.listdir(self.path / ".meshsync" / "staging"))

    def scan(self, ignore: bytes = b"") -> tuple[dict[RelativePath, Observed], dict[RelativePath, Problem]]:
        return collect(scan(self.root, IgnoreRules(ignore)))

    def scan_paths(self, *paths: RelativePath, ignore: bytes = b"") -> Batch:
        return merged(list(scan_paths(self.root, IgnoreRules(ignore), paths)))


def merged(steps: list[Any]) -> Batch:
    """Return all that a completed scan found as one batch."""
    assert isinstance(steps[-1], Complete), steps[-1]
    whole = Batch()
    for step in steps[:-1]:
        whole.observed += step.observed
        whole.problems += step.problems
        whole.absent += step.absent
    assert steps[-1] == Complete(len(whole.observed), len(whole.problems))
    return whole


def collect(steps: Any) -> tuple[dict[RelativePath, Observed], dict[RelativePath, Problem]]:
    whole = merged(list(steps))
    return {found.path: found for found in whole.observed}, {problem.path: problem for problem in whole.problems}
