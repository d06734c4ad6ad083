"""The simulated disk: what the real one answers, call by call, and what a power cut may take from it."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshsync.folder.syscalls import Syscalls
from tests.sim.disk import Disk
from tests.sim.process import Process
from tests.sim.syscalls import ROOT_PATH, SimSyscalls

NAMES = [b"a", b"b", b"c", b"l", b"x" * 256]


class Twins:
    """The same calls on the real disk and on the simulated one."""

    def __init__(self, path: Path) -> None:
        self.disk = Disk(lambda: 0.0, lambda: 10**18)
        self.calls = (Syscalls(), SimSyscalls(self.disk, lambda call: None))
        self.fds: list[tuple[int, int]] = [
            (self.calls[0].open_root(os.fsencode(path)), self.calls[1].open_root(ROOT_PATH))
        ]

    def do(self, call: str, *arguments: Any) -> tuple[Any, Any]:
        """Make one call on both; an argument ("fd", n) is the n-th open descriptor."""
        answers = []
        for which, calls in enumerate(self.calls):
            real = [self.fds[each[1]][which] if isinstance(each, tuple) else each for each in arguments]
            try:
                answers.append(getattr(calls, call)(*real))
            except OSError as error:
                answers.append(OSError(error.errno))
        return answers[0], answers[1]

    def close(self) -> None:
        for real, _ in self.fds:
            os.close(real)


def looks(status: Any) -> tuple[int, int]:
    """Return what two file systems agree on."""
    kind = status.mode & 0o170000
    return (kind, 0) if kind == 0o040000 else (status.mode, status.stat.size)


def step(twins: Twins, chance: random.Random) -> None:
    fd: Callable[[], tuple[str, int]] = lambda: ("fd", chance.randrange(len(twins.fds)))  # noqa: E731
    name: Callable[[], bytes] = lambda: chance.choice(NAMES)  # noqa: E731
    calls: dict[str, tuple[Any, ...]] = {
        "open_directory": (fd(), chance.choice([*NAMES, b"."])),
        "open_beneath": (fd(), b"/".join(name() for _ in range(chance.randint(1, 3)))),
        "open_file": (fd(), name()),
        "open_for_writing": (fd(), name()),
        "create": (fd(), name()),
        "status": (fd(), name()),
        "names": (fd(),),
        "link_target": (fd(), name()),
        "read": (fd(), 100, chance.randrange(8)),
        "write": (fd(), b"0123456789"[: chance.randint(1, 9)], chance.randrange(8)),
        "truncate": (fd(), chance.randrange(12)),
        "chmod": (fd(), chance.choice((0o700, 0o755))),
        "make_directory": (fd(), name(), 0o755),
        "make_link": (fd(), name(), b"target"),
        "rename": (fd(), name(), fd(), name()),
        "rename_new": (fd(), name(), fd(), name()),
        "exchange": (fd(), name(), fd(), name()),
        "link": (fd(), name(), fd(), name()),
        "unlink": (fd(), name()),
        "remove_directory": (fd(), name()),
        "duplicate": (fd(),),
    }
    call = chance.choice(list(calls))
    real, simulated = twins.do(call, *calls[call])
    said = f"{call}{calls[call]}: {real!r}, simulated {simulated!r}"
    if isinstance(real, OSError) or isinstance(simulated, OSError):
        assert isinstance(real, OSError) and isinstance(simulated, OSError), said
        assert errno.errorcode[real.args[0]] == errno.errorcode[simulated.args[0]], said
    elif call in ("open_directory", "open_beneath", "open_file", "open_for_writing", "create", "duplicate"):
        twins.fds.append((real, simulated))
    elif call == "status":
        assert looks(real) == looks(simulated), said
    else:
        assert real == simulated, said


@pytest.mark.parametrize("seed", range(30))
def test_it_answers_as_linux_does(tmp_path: Path, seed: int) -> None:
    twins = Twins(tmp_path)
    chance = random.Random(seed)
    try:
        for _ in range(150):
            step(twins, chance)
    finally:
        twins.close()


# --- durability ------------------------------------------------------------------------------------------------------


def after_cuts(act: Callable[[SimSyscalls, int], None]) -> set[tuple[tuple[bytes, bytes], ...]]:
    """Return every tree, as (name, bytes), that some power cut leaves after `act`."""
    found = set()
    for seed in range(60):
        disk = Disk(lambda: 0.0, lambda: 10**18)
        calls = SimSyscalls(disk, lambda call: None)
        act(calls, calls.open_root(ROOT_PATH))
        calls.close_all()
        disk.power_cut(random.Random(seed))
        found.add(tuple(sorted((name, bytes(inode.data)) for name, inode in disk.root.entries.items())))
    return found


def write(calls: SimSyscalls, fd: int, name: bytes, data: bytes, sync: bool = True) -> None:
    file = calls.create(fd, name)
    calls.write(file, data, 0)
    if sync:
        calls.fsync(file)
        calls.fsync(fd)


def test_what_was_synced_is_there() -> None:
    assert after_cuts(lambda calls, fd: write(calls, fd, b"f", b"data")) == {((b"f", b"data"),)}


def test_what_was_not_synced_may_be_gone_empty_or_torn() -> None:
    left = after_cuts(lambda calls, fd: write(calls, fd, b"f", b"0123456789abcdef" * 2, sync=False))
    assert {(), ((b"f", b""),), ((b"f", b"0123456789abcdef" * 2),)} < left


def test_a_rename_over_a_file_happens_or_not() -> None:
    def act(calls: SimSyscalls, fd: int) -> None:
        write(calls, fd, b"f", b"old")
        write(calls, fd, b"new", b"new")
        calls.rename(fd, b"new", fd, b"f")

    assert after_cuts(act) == {((b"f", b"old"), (b"new", b"new")), ((b"f", b"new"),)}


def test_a_move_between_directories_never_loses_the_file() -> None:
    for seed in range(60):
        disk = Disk(lambda: 0.0, lambda: 10**18)
        calls = SimSyscalls(disk, lambda call: None)
        root = calls.open_root(ROOT_PATH)
        write(calls, root, b"f", b"data")
        calls.make_directory(root, b"d", 0o755)
        below = calls.open_directory(root, b"d")
        calls.rename(root, b"f", below, b"f")
        calls.close_all()
        disk.power_cut(random.Random(seed))
        places = [disk.root, disk.root.entries.get(b"d") or disk.root]
        assert any(b"f" in place.entries for place in places)


def test_a_number_is_used_again_once_nothing_leads_to_it() -> None:
    disk = Disk(lambda: 0.0, lambda: 10**18)
    calls = SimSyscalls(disk, lambda call: None)
    root = calls.open_root(ROOT_PATH)
    write(calls, root, b"f", b"data")
    calls.close_all()
    root = calls.open_root(ROOT_PATH)
    first = calls.status(root, b"f").stat.inode
    calls.unlink(root, b"f")
    write(calls, root, b"g", b"data")
    assert calls.status(root, b"g").stat.inode != first, "a power cut may still bring the first back"
    calls.close_all()
    root = calls.open_root(ROOT_PATH)
    write(calls, root, b"h", b"data")
    assert calls.status(root, b"h").stat.inode == first


def test_a_dead_process_does_nothing() -> None:
    disk, process = Disk(lambda: 0.0, lambda: 10**18), Process()
    calls = SimSyscalls(disk, process.step)
    root = calls.open_root(ROOT_PATH)
    process.at(2, lambda: setattr(process, "alive", False))
    calls.make_directory(root, b"d", 0o755)
    with pytest.raises(BaseException, match="make_directory"):
        calls.make_directory(root, b"e", 0o755)
    assert set(disk.root.entries) == {b"d"}
