"""Random histories of whole devices: a disk with inodes, scans, plans cut off at any action, crashes before the record.

After settling: nothing to do anywhere, disks equal to the view and to each other, no value lost, nothing left parked.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from meshsync.content.record import Content, Kind
from meshsync.sync.node import DIRECTORY
from meshsync.sync.view import View
from tests.model.device_model import file, link
from tests.sync.device_twin import DeviceTwin, settle
from tests.sync.disk_twin import DiskTwin, Path

NAMES = [b"a", b"b", b"c.txt"]
Tree = dict[Path, tuple[Content, bool]]


@dataclass
class Run:
    rng: random.Random
    devices: list[DeviceTwin]
    written: list[Content] = field(default_factory=list)
    removed: set[Content] = field(default_factory=set)

    def value(self) -> Content:
        number = len(self.written) + 1
        self.written.append(link(number) if self.rng.random() < 0.1 else file(number))
        return self.written[-1]


def view_tree(view: View) -> Tree:
    return {path: (shown.content, shown.executable) for path, shown in view.walk()}


def view_mtimes(view: View) -> dict[Path, int]:
    return {path: shown.face.mtime_ns for path, shown in view.walk() if shown.kind is Kind.FILE}


def act(run: Run, device: DeviceTwin) -> None:
    disk, tree, rng = device.disk, device.disk.tree(), run.rng
    paths = sorted(tree)
    files = [path for path in paths if tree[path][0] != DIRECTORY]
    free = free_path(rng, tree)
    roll = rng.random()
    if (roll < 0.3 or not paths) and free is not None:
        if rng.random() < 0.35:
            disk.make_directory(free)
        else:
            disk.write(free, run.value())
    elif roll < 0.5 and files:
        path = rng.choice(files)
        run.removed.add(tree[path][0])
        disk.write(path, run.value(), in_place=tree[path][0].kind is Kind.FILE and rng.random() < 0.5)
    elif roll < 0.7 and paths and free is not None:
        source = rng.choice(paths)
        if free[: len(source)] != source:
            disk.rename(source, free)
    elif roll < 0.76 and paths:
        swap(disk, rng.choice(paths), rng.choice(paths))
    elif roll < 0.82 and files:
        disk.touch(rng.choice(files))
    elif roll < 0.92 and paths:
        path = rng.choice(paths)
        run.removed.update(tree[below][0] for below in tree if below[: len(path)] == path)
        disk.delete(path)
    elif roll < 0.96 and files:
        path = rng.choice(files)
        if tree[path][0].kind is Kind.FILE:
            disk.set_executable(path, not tree[path][1])
    elif files:
        path = rng.choice(files)
        run.removed.add(tree[path][0])
        disk.delete(path)
        disk.make_directory(path)


def swap(disk: DiskTwin, one: Path, other: Path) -> None:
    if one[: len(other)] != other and other[: len(one)] != one:
        disk.rename(one, (b"~",))
        disk.rename(other, one)
        disk.rename((b"~",), other)


def free_path(rng: random.Random, tree: Tree) -> Path | None:
    parents: list[Path] = [(), *(path for path in sorted(tree) if tree[path][0] == DIRECTORY)]
    path = (*rng.choice(parents), rng.choice(NAMES))
    return None if path in tree or len(path) > 4 else path


def run_history(seed: int, count: int, steps: int, crashes: bool) -> Run:
    run = Run(random.Random(seed), [DeviceTwin(number) for number in range(1, count + 1)])
    fresh = dict.fromkeys(run.devices, True)
    for _ in range(steps):
        device, roll = run.rng.choice(run.devices), run.rng.random()
        if roll < 0.2:
            device.receive(list(run.rng.choice(run.devices).log))
            fresh[device] = False
        elif roll < 0.4:
            fresh[device] = apply_some(run.rng, device, crashes)
        elif roll < 0.55:
            device.publish()
            assert not fresh[device] or view_tree(device.view) == device.disk.tree(), "not what the user did"
            assert not fresh[device] or view_mtimes(device.view) == device.disk.mtimes(), "not when the user did it"
        else:
            act(run, device)
    return run


def apply_some(rng: random.Random, device: DeviceTwin, crashes: bool) -> bool:
    actions = device.publish().apply
    count = len(actions) if rng.random() < 0.6 else rng.randint(0, len(actions))
    for number, action in enumerate(actions[:count], 1):
        if crashes and number == count and rng.random() < 0.5:
            device.do_and_crash(action)
            return False
        device.do(action)
    return count == len(actions) and not crashes


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_histories_of_whole_devices(seed: int, crashes: bool) -> None:
    check(run_history(seed, 2 + seed % 2, 30, crashes))


def test_what_lies_in_a_directory_that_a_plan_gave_to_others_is_found() -> None:
    """A directory on disk took over other nodes while rows still named the node it had: an empty group was loaded."""
    check(run_history(50007, 2 + 50007 % 3, 45, True))


@pytest.mark.slow
@pytest.mark.parametrize("crashes", [False, True])
def test_many_histories_of_whole_devices(crashes: bool) -> None:
    for seed in range(1000, 2000):
        check(run_history(seed, 3, 40, crashes))


def check(run: Run) -> None:
    settle(*run.devices)
    for device in run.devices:
        plan = device.publish()
        assert not plan.apply and not plan.publish and not plan.settled, "not at rest"
        assert device.disk.tree() == view_tree(device.view) == run.devices[0].disk.tree()
        assert device.disk.mtimes() == view_mtimes(device.view) == run.devices[0].disk.mtimes()
        assert not device.disk.parked
    shown = {content for content, _ in run.devices[0].disk.tree().values()}
    assert set(run.written) <= shown | run.removed, "a value is lost"
