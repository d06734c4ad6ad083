"""P5 on real agents: a path is never absent or partial while versions arrive, and who saves meanwhile loses nothing."""

from __future__ import annotations

import random
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.real_mesh import Device, Mesh, settle, until

pytestmark = pytest.mark.slow
PATHS = 25
ROUNDS = 40  # of each path: 1,000 replaces
SIZES = (700, 300_000)  # one write, and many
READER = """
import select, sys
paths, seen = sys.argv[1:], set()
print(flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for path in paths:
        with open(path, "rb") as file:  # raises if the path is absent
            data = file.read()
        word, _, filler = data.partition(b";")
        version, _, size = word.partition(b":")
        if not size.isdigit() or len(data) != int(size) or filler != filler[:1] * len(filler):
            sys.exit(f"partial: {path}: {data[:40]!r}, {len(data)} bytes")
        seen.add((path, version))
print(len(seen))
"""
WAITS_S = (0.0, 0.0, 0.001, 0.004, 0.02)  # before a save; an incoming change takes some milliseconds for each file
EDITED, WRITTEN = 2_000, 200_000  # the sizes of what is saved here and of what arrives; each version has its own
EDIT_ROUNDS = 3  # fewer saves in all than a safeguard asks about


def whole(version: int, size: int) -> bytes:
    """Return contents of which a reader can tell whether they are whole."""
    head = b"%d:%d;" % (version, size)
    return head + bytes([65 + version % 26]) * (size - len(head))


def safe_save(path: Path, content: bytes) -> None:
    """Write beside the tree and rename, so that the agent never sees a half-written file."""
    aside = path.parent.parent / f"saving-{path.parent.name}"
    aside.write_bytes(content)
    aside.rename(path)


def rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def save_with_backup(path: Path, content: bytes) -> None:
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    path.write_bytes(content)
    backup.unlink()


SAVES: tuple[Callable[[Path, bytes], None], ...] = (safe_save, rewrite, save_with_backup)


@contextmanager
def reader(paths: list[Path]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads the paths again and again until its input ends; then it prints how many versions it saw."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, *map(str, paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def contents(tree: Path) -> set[bytes]:
    found = (path for path in tree.rglob("*") if path.is_file() and ".meshsync" not in path.parts)
    return {path.read_bytes() for path in found}


def listed_sizes(device: Device) -> set[int]:
    return {int(version["size"]) for version in device.versions()}


def test_a_reader_never_sees_a_path_absent_or_partial_during_a_thousand_replaces(mesh: Mesh) -> None:
    devices = laptop, desk = mesh.pair(["laptop", "desk"], relay=False)
    names = [f"note-{number}" for number in range(PATHS)]
    for name in names:
        safe_save(laptop.tree / name, whole(0, SIZES[0]))
    settle(devices)
    with reader([desk.tree / name for name in names]) as process:
        for version in range(1, ROUNDS + 1):
            content = whole(version, SIZES[version % len(SIZES)])
            for name in names:
                safe_save(laptop.tree / name, content)
            until(
                lambda: all((desk.tree / name).read_bytes() == content for name in names),  # noqa: B023
                lambda: (version, process.poll(), desk.status()),  # noqa: B023
            )
        assert process.poll() is None, process.communicate()
        output, problem = process.communicate()  # ends its input
    assert process.returncode == 0, problem.decode()
    assert int(output) > PATHS * ROUNDS / 2, "the reader was awake while versions arrived"
    settle(devices)
    assert contents(desk.tree) == {content}
    assert not desk.strays()


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_an_editor_that_saves_in_the_middle_of_an_incoming_change_keeps_both(
    mesh: Mesh, save: Callable[[Path, bytes], None]
) -> None:
    devices = laptop, desk = mesh.pair(["laptop", "desk"], relay=False)
    chance = random.Random(save.__name__)
    numbers = range(EDIT_ROUNDS * PATHS)
    for number in numbers:
        safe_save(laptop.tree / f"note-{number}", b"base")
    settle(devices)
    for start in range(0, len(numbers), PATHS):
        turn = list(numbers[start : start + PATHS])
        for number in turn:
            safe_save(laptop.tree / f"note-{number}", whole(number, WRITTEN + number))
        chance.shuffle(turn)
        for number in turn:
            select.select([], [], [], chance.choice(WAITS_S))
            save(desk.tree / f"note-{number}", whole(number, EDITED + number))
    settle(devices)
    on_disk, listed = contents(desk.tree), listed_sizes(desk)
    for number in numbers:
        assert whole(number, EDITED + number) in on_disk, f"what was saved at the desk: {number}"
        incoming = whole(number, WRITTEN + number)
        assert incoming in on_disk or len(incoming) in listed, f"what came from the laptop: {number}"
    met = sum(whole(number, WRITTEN + number) in on_disk for number in numbers)
    assert met > 0, "some saves met a change that had not been put in place yet"
    assert on_disk <= {whole(n, size + n) for n in numbers for size in (EDITED, WRITTEN)}, "nothing is mixed or cut"
    assert not any(device.strays() for device in devices)
