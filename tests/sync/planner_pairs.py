"""Every pair of changes that two users make to one small tree while apart: `python -m tests.sync.planner_pairs`.

Trees have up to three names at the top, each a file or a directory of up to three files; trees that differ only in
names are tried once. After the two meet: equal disks, as the view shows; nothing parked, nothing left to do; every
value that nobody removed is there, and what one removed and the other left alone is gone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, islice

from meshsync.content.record import Content, Kind
from meshsync.sync.node import DIRECTORY
from tests.model.device_model import file, link
from tests.sync.device_twin import DeviceTwin, exchange, settle
from tests.sync.disk_twin import DiskTwin, Path

TOP = (b"a", b"b", b"c")
INSIDE = (b"x", b"y", b"z")
NEW = b"n"
ABSENT, FILE = -2, -1
"""What a name at the top is; from 0 on, a directory with so many files."""

Tree = tuple[int, int, int]
FIRST_NEW = 100  # values below are those of the tree


@dataclass(frozen=True, slots=True)
class Act:
    """One thing a user does: `what` at `path`, for moves to `target`."""

    what: str
    path: Path
    target: Path = ()

    def __str__(self) -> str:
        places = " ".join(b"/".join(path).decode() for path in (self.path, self.target) if path)
        return f"{self.what} {places}"


@dataclass(slots=True)
class Effect:
    """What an act did to values: `written` are new, `removed` were there, `places` are the paths that it touched."""

    written: set[Content] = field(default_factory=set)
    removed: set[Content] = field(default_factory=set)
    places: set[Path] = field(default_factory=set)


def trees() -> Iterator[Tree]:
    """Yield every tree once, whatever its names."""
    yield from combinations_with_replacement(range(ABSENT, len(INSIDE) + 1), 3)


def contents(tree: Tree) -> dict[Path, Content]:
    """Return path → what lies there; every file has a value of its own."""
    found: dict[Path, Content] = {}
    for name, what in zip(TOP, tree, strict=True):
        if what == FILE:
            found[(name,)] = file(len(found) + 1)
        elif what >= 0:
            found[(name,)] = DIRECTORY
            for inside in INSIDE[:what]:
                found[(name, inside)] = file(len(found) + 1)
    return found


def acts(tree: Tree) -> list[Act]:
    """Return everything that a user may do to the tree, names that make no difference left out."""
    return acts_on(contents(tree))


def acts_on(held: dict[Path, Content]) -> list[Act]:
    """Return everything that a user may do where `held` lies."""
    files = [path for path, content in held.items() if content != DIRECTORY]
    directories: list[Path] = [(), *(path for path, content in held.items() if content == DIRECTORY)]
    found = [Act(what, path) for path in files for what in ("edit", "to directory", "to link")]
    found += [Act("chmod", path) for path in files if held[path].kind is Kind.FILE]
    found += [Act("delete", path) for path in held]
    found += [Act("to file", path) for path in directories if path]
    found += [Act(what, (*path, NEW)) for path in directories for what in ("create", "make directory")]
    for source, moved in held.items():
        for above in directories:
            if above[: len(source)] != source:
                found.append(Act("move", source, (*above, NEW)))
        for other, replaced in held.items():
            if DIRECTORY not in (moved, replaced) and source != other:
                found.append(Act("move over", source, other))
            if source < other and source[: len(other)] != other and other[: len(source)] != source:
                found.append(Act("swap", source, other))
    return found


def perform(disk: DiskTwin, act: Act, value: int) -> Effect:
    """Do `act`, writing values from `value` on; return what it did."""
    before = {path: content for path, (content, _) in disk.tree().items()}
    effect = Effect(places={act.path, act.target} - {()})

    def new(is_link: bool = False) -> Content:
        content = link(value + len(effect.written)) if is_link else file(value + len(effect.written))
        effect.written.add(content)
        return content

    if act.what in ("edit", "create"):
        disk.write(act.path, new())
    elif act.what == "to link":
        disk.write(act.path, new(is_link=True))
    elif act.what == "chmod":
        disk.set_executable(act.path, True)
    elif act.what == "make directory":
        disk.make_directory(act.path)
        disk.write((*act.path, INSIDE[0]), new())
    elif act.what in ("move", "move over"):
        disk.rename(act.path, act.target)
    elif act.what == "swap":
        disk.rename(act.path, (b"~",))
        disk.rename(act.target, act.path)
        disk.rename((b"~",), act.target)
    else:
        disk.delete(act.path)
        if act.what == "to directory":
            disk.make_directory(act.path)
            disk.write((*act.path, INSIDE[0]), new())
        elif act.what == "to file":
            disk.write(act.path, new())
    after = {content for content, _ in disk.tree().values()}
    effect.removed = {content for content in before.values() if content not in after and content != DIRECTORY}
    return effect


def check(tree: Tree, mine: Act, theirs: Act) -> None:
    """Let two users act and meet. Raises AssertionError."""
    held = contents(tree)
    one, other = DeviceTwin(1), DeviceTwin(2)
    for path, content in held.items():
        if content == DIRECTORY:
            one.disk.make_directory(path)
        else:
            one.disk.write(path, content)
    settle(one, other)
    effects = perform(one.disk, mine, FIRST_NEW), perform(other.disk, theirs, 2 * FIRST_NEW)
    settle(one, other)
    for device in (one, other):
        plan = device.publish()
        assert not plan.publish.changes and not plan.apply, "something is left to do"
        assert not device.disk.parked, "something is parked"
    exchange(one, other)
    shown = {path: (each.content, each.executable) for path, each in one.view.walk()}
    assert one.disk.tree() == other.disk.tree() == shown, "the disks differ"
    there = {content for content, _ in shown.values()}
    for effect in effects:
        assert effect.written <= there, "what a user wrote is lost"
    untouched = set(held.values()) - {DIRECTORY} - effects[0].removed - effects[1].removed
    assert untouched <= there, "what nobody removed is lost"
    for effect, against in (effects, effects[::-1]):
        for path, content in held.items():
            if content in effect.removed and not any(_meets(path, place) for place in against.places):
                assert content not in there, "what was removed is back"


def _meets(path: Path, place: Path) -> bool:
    """Whether an act at `place` concerns `path`: it, what is above it or what is below it."""
    size = min(len(path), len(place))
    return path[:size] == place[:size]


def cases() -> Iterator[tuple[Tree, Act, Act]]:
    """Yield every tree with every pair of acts."""
    for tree in trees():
        every = acts(tree)
        for mine in every:
            for theirs in every:
                yield tree, mine, theirs


def failure(case: tuple[Tree, Act, Act]) -> str:
    """Return why a case fails, "" if it does not."""
    tree, mine, theirs = case
    try:
        check(tree, mine, theirs)
    except Exception as error:  # noqa: BLE001 - any error of the planner is a failure of the case
        return f"tree {tree}: {mine} | {theirs}: {type(error).__name__}: {error}"
    return ""


def try_every(step: int, workers: int) -> tuple[int, list[str]]:
    """Try each `step`-th case; return how many those are, and what failed."""
    wanted = list(islice(cases(), 0, None, step))
    with multiprocessing.Pool(workers) as pool:
        return len(wanted), [why for why in pool.imap_unordered(failure, wanted, chunksize=64) if why]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="try only each n-th case")
    options = parser.parse_args()
    count, failed = try_every(options.every, options.workers)
    print(*failed[:20], sep="\n")
    print(f"{count} pairs of changes, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
