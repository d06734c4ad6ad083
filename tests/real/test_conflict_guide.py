"""What the user's guide says of conflicts is what real agents do: the same cases on real disks."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path as DiskPath

import pytest

from meshsync.content.record import Content, Kind
from meshsync.sync.node import DIRECTORY
from tests.real.test_conflicts import apart
from tests.support.real_mesh import Mesh, settle
from tests.sync.conflict_cases import CASES, TEXTS, Case, Tree, content_of, listing, plain, play
from tests.sync.disk_twin import Path

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class RealHands:
    """Does what a user does to the directory `root`."""

    root: DiskPath

    def _at(self, path: Path) -> DiskPath:
        return self.root / os.fsdecode(b"/".join(path))

    def write(self, path: Path, content: Content) -> None:
        if content.kind is Kind.LINK:
            self._at(path).symlink_to(os.fsdecode(content.target))
        else:
            self._at(path).write_text(TEXTS[content.root])

    def make_directory(self, path: Path) -> None:
        self._at(path).mkdir()

    def delete(self, path: Path) -> None:
        shutil.rmtree(self._at(path)) if self._at(path).is_dir() else self._at(path).unlink()

    def rename(self, source: Path, target: Path) -> None:
        self._at(source).rename(self._at(target))

    def set_executable(self, path: Path, executable: bool) -> None:
        self._at(path).chmod(0o755 if executable else 0o644)

    def tree(self) -> dict[Path, tuple[Content, bool]]:
        found: dict[Path, tuple[Content, bool]] = {}
        for directory, directories, files in os.walk(self.root):
            directories[:] = sorted(set(directories) - {".meshsync"})
            for name in [*directories, *files]:
                at = DiskPath(directory) / name
                inside = tuple(map(os.fsencode, at.relative_to(self.root).parts))
                if at.is_symlink():
                    found[inside] = content_of(f"-> {at.readlink()}"), False
                elif at.is_dir():
                    found[inside] = DIRECTORY, False
                else:
                    found[inside] = content_of(at.read_text()), bool(at.stat().st_mode & 0o100)
        return found


def shown(tree: Tree) -> Tree:
    return {plain(name): text for name, text in tree.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_real_agents_show_what_the_guide_says(mesh: Mesh, case: Case) -> None:
    devices = mesh.pair(["ann", "bob"], relay=False)
    hands = RealHands(devices[0].tree)
    for name, text in case.before.items():
        path = tuple(part.encode() for part in name.split("/"))
        hands.make_directory(path) if text == "a directory" else hands.write(path, content_of(text))
    settle(devices)
    for acts in case.rounds:
        apart(devices, [lambda root, mine=mine: [act.do(RealHands(root)) for act in mine] for mine in acts])  # type: ignore[misc]
        settle(devices)
    found = shown(listing(RealHands(devices[0].tree)))
    # Which of two equal claims wins depends on the devices' keys: either order of them is right.
    orders = [shown(listing(play(case, numbers)[0].disk)) for numbers in ((1, 2), (2, 1))]
    assert found in orders or len(case.rounds) > 1
    assert (found.keys(), sorted(found.values())) in [(order.keys(), sorted(order.values())) for order in orders]
    assert [device.folder()["conflicts"] for device in devices] == [case.conflicts] * 2
