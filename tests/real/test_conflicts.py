"""Both sides change while they are apart: equal trees, every value kept, the same after a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.real_mesh import Device, Mesh, settle

pytestmark = pytest.mark.slow
CONFLICTS_PRESENT = 6  # the exit code


@dataclass(frozen=True)
class Case:
    """What is there before, what each side does, and the values that must be on disk afterwards."""

    before: dict[str, str]
    one: Callable[[Path], object]
    other: Callable[[Path], object]
    kept: frozenset[str]
    conflicts: int


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def remove(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    directory.rmdir()


def swap(root: Path, one: str, other: str) -> None:
    (root / one).rename(root / "aside")
    (root / other).rename(root / one)
    (root / "aside").rename(root / other)


def replace_by_file(path: Path, text: str) -> None:
    remove(path)
    path.write_text(text)


CASES: dict[str, Case] = {
    "two directories swapped against one that became a file": Case(
        {"D1/x": "in D1", "D2/x": "in D2"},
        lambda root: swap(root, "D1", "D2"),
        lambda root: replace_by_file(root / "D2", "file"),
        frozenset({"in D1", "in D2", "file"}),
        1,
    ),
    "one file edited on both sides": Case(
        {"note": "base"},
        lambda root: write(root / "note", "one"),
        lambda root: write(root / "note", "other"),
        frozenset({"one", "other"}),
        1,
    ),
    "the same edit on both sides": Case(
        {"note": "base"},
        lambda root: write(root / "note", "same"),
        lambda root: write(root / "note", "same"),
        frozenset({"same"}),
        0,
    ),
    "one name created on both sides": Case(
        {},
        lambda root: write(root / "new", "one"),
        lambda root: write(root / "new", "other"),
        frozenset({"one", "other"}),
        1,
    ),
    "edit against delete": Case(
        {"note": "base"},
        lambda root: write(root / "note", "edited"),
        lambda root: (root / "note").unlink(),
        frozenset({"edited"}),
        0,
    ),
    "rename against delete": Case(
        {"note": "base"},
        lambda root: (root / "note").rename(root / "renamed"),
        lambda root: (root / "note").unlink(),
        frozenset({"base"}),
        0,
    ),
    "directory deleted against a new file inside": Case(
        {"dir/old": "old"},
        lambda root: remove(root / "dir"),
        lambda root: write(root / "dir/new", "new"),
        frozenset({"new"}),
        0,
    ),
    "directory deleted against an edit inside": Case(
        {"dir/old": "old", "dir/other": "unedited"},
        lambda root: remove(root / "dir"),
        lambda root: write(root / "dir/old", "edited"),
        frozenset({"edited"}),
        0,
    ),
    "file against directory": Case(
        {},
        lambda root: write(root / "thing", "a file"),
        lambda root: write(root / "thing/inside", "in a directory"),
        frozenset({"a file", "in a directory"}),
        1,
    ),
    "edit against rename": Case(
        {"note": "base"},
        lambda root: write(root / "note", "edited"),
        lambda root: (root / "note").rename(root / "renamed"),
        frozenset({"edited"}),
        0,
    ),
    "two renames of one file": Case(
        {"note": "base"},
        lambda root: (root / "note").rename(root / "one name"),
        lambda root: (root / "note").rename(root / "other name"),
        frozenset({"base"}),
        0,
    ),
}


def values(tree: Path) -> list[str]:
    found = (path for path in tree.rglob("*") if path.is_file() and ".meshsync" not in path.parts)
    return sorted(path.read_text() for path in found)


def apart(devices: list[Device], changes: list[Callable[[Path], object]]) -> None:
    """Make each device's change while nothing is exchanged, then let them meet."""
    for device in devices:
        device.cli("pause")
    for device, change in zip(devices, changes, strict=True):
        change(device.tree)
        device.rescan()
    for device in devices:
        device.cli("resume")


@pytest.mark.parametrize("rule", CASES)
def test_both_sides_end_equal_with_every_value(mesh: Mesh, rule: str) -> None:
    case = CASES[rule]
    devices = mesh.pair(["laptop", "desk"], relay=False)
    for name, text in case.before.items():
        write(devices[0].tree / name, text)
    settle(devices)
    apart(devices, [case.one, case.other])
    settle(devices)
    assert values(devices[0].tree) == sorted(case.kept)
    assert [device.folder()["conflicts"] for device in devices] == [case.conflicts] * 2
    for device in devices:
        listed = device.cli("conflicts", code=CONFLICTS_PRESENT if case.conflicts else 0)["conflicts"]
        assert len(listed) == case.conflicts
        assert all((device.tree / found["path"]).exists() for found in listed), "the path that the copies are of"
        assert all(found["path"] != copy["path"] for found in listed for copy in found["copies"])


def test_a_restart_of_both_changes_nothing_about_a_conflict(mesh: Mesh) -> None:
    devices = mesh.pair(["laptop", "desk"], relay=True)
    write(devices[0].tree / "note", "base")
    settle(devices, durable=True)
    apart(devices, [lambda root: write(root / "note", "one"), lambda root: write(root / "note", "other")])
    settle(devices, durable=True)
    versions = [device.folder()["versions"] for device in devices]
    for device in devices:
        device.down()
    for device in devices:
        device.up()
    settle(devices, durable=True)
    assert values(devices[1].tree) == ["one", "other"]
    assert [device.folder()["versions"] for device in devices] == versions
    assert [device.folder()["conflicts"] for device in devices] == [1, 1]


def test_edits_made_while_both_are_off_conflict_the_same_way(mesh: Mesh) -> None:
    devices = mesh.pair(["laptop", "desk"], relay=False)
    write(devices[0].tree / "note", "base")
    settle(devices)
    for device in devices:
        device.down()
    for device in devices:
        write(device.tree / "note", device.name)
    for device in devices:
        device.up()
    settle(devices)
    assert values(devices[0].tree) == ["desk", "laptop"]


def test_three_edits_end_as_three_versions(mesh: Mesh) -> None:
    devices = mesh.pair(["laptop", "desk", "phone"], relay=False)
    write(devices[0].tree / "note", "base")
    settle(devices)
    apart(devices, [lambda root, name=device.name: write(root / "note", name) for device in devices])  # type: ignore[misc]
    settle(devices)
    assert values(devices[2].tree) == ["desk", "laptop", "phone"]
