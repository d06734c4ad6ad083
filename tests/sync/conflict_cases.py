"""What happens when two people change one folder while they are apart: one table, for the tests and the user's guide.

Ann's and Bob's devices start with the same `before`, act while apart, and meet; `after` is what both then show. A file
is its text, a directory `DIRECTORY`, a link `-> target`; `…` stands for the digits in the name of a conflict copy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from meshsync.content.record import Content, Kind
from tests.sync.device_twin import DeviceTwin, settle
from tests.sync.disk_twin import Path

DIRECTORY = "a directory"
EXECUTABLE = ", executable"
Tree = dict[str, str]


class Hands(Protocol):
    """What a user does to a disk, simulated or real."""

    def write(self, path: Path, content: Content) -> None: ...
    def make_directory(self, path: Path) -> None: ...
    def delete(self, path: Path) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def set_executable(self, path: Path, executable: bool) -> None: ...
    def tree(self) -> dict[Path, tuple[Content, bool]]: ...


@dataclass(frozen=True)
class Act:
    """Something a user does, in words that follow the user's name, and as it is done."""

    words: str
    do: Callable[[Hands], None]


@dataclass(frozen=True)
class Case:
    """One row. With several `rounds` the devices meet after each; `conflicts` files are in conflict at the end."""

    name: str
    before: Tree
    rounds: tuple[tuple[tuple[Act, ...], tuple[Act, ...]], ...]
    after: Tree
    conflicts: int
    note: str


def path_of(disk: Hands, name: str) -> Path:
    """Return the path of `name`, in which `…` stands for what a conflict copy on `disk` is called."""
    if "…" in name:
        (name,) = [shown for shown in listing(disk) if plain(shown) == name]
    return tuple(part.encode() for part in name.split("/"))


def plain(name: str) -> str:
    return re.sub(r"\(conflict [0-9a-f ]+\)", "(conflict …)", name)


def listing(disk: Hands) -> Tree:
    """Return what lies on `disk`, by its real names."""
    found = {}
    for path, (content, executable) in disk.tree().items():
        words = DIRECTORY if content.kind is Kind.DIRECTORY else f"-> {content.target.decode()}"
        if content.kind is Kind.FILE:
            words = TEXTS[content.root] + (EXECUTABLE if executable else "")
        found[b"/".join(path).decode()] = words
    return found


TEXTS: dict[bytes, str] = {}


def content_of(text: str) -> Content:
    if text.startswith("-> "):
        return Content(Kind.LINK, target=text[3:].encode())
    root = sha256(text.encode()).digest()
    TEXTS[root] = text
    return Content(Kind.FILE, len(text), root)


def write(name: str, text: str) -> Act:
    return Act(f"writes “{text}” to `{name}`", lambda disk: disk.write(path_of(disk, name), content_of(text)))


def link(name: str, target: str) -> Act:
    return Act(f"makes a link `{name}` to `{target}`", lambda d: d.write(path_of(d, name), content_of(f"-> {target}")))


def directory(name: str) -> Act:
    return Act(f"makes a directory `{name}`", lambda disk: disk.make_directory(path_of(disk, name)))


def delete(name: str) -> Act:
    return Act(f"deletes `{name}`", lambda disk: disk.delete(path_of(disk, name)))


def rename(name: str, to: str) -> Act:
    return Act(f"renames `{name}` to `{to}`", lambda disk: disk.rename(path_of(disk, name), path_of(disk, to)))


def executable(name: str) -> Act:
    return Act(f"makes `{name}` executable", lambda disk: disk.set_executable(path_of(disk, name), True))


def once(ann: Act | tuple[Act, ...], bob: Act | tuple[Act, ...]) -> tuple[tuple[tuple[Act, ...], tuple[Act, ...]], ...]:
    """Return one round."""
    return ((ann if isinstance(ann, tuple) else (ann,), bob if isinstance(bob, tuple) else (bob,)),)


def play(case: Case, numbers: tuple[int, int] = (1, 2)) -> tuple[DeviceTwin, DeviceTwin]:
    """Let the case happen on two devices of the real engine, with these numbers; return them after they met."""
    ann, bob = (DeviceTwin(number) for number in numbers)
    for name, text in case.before.items():
        (directory(name) if text == DIRECTORY else write(name, text)).do(ann.disk)
    settle(ann, bob)
    for one, other in case.rounds:
        for device, acts in ((ann, one), (bob, other)):
            for act in acts:
                act.do(device.disk)
        settle(ann, bob)
    return ann, bob


PLAN = "plan.txt"
COPY = "plan (conflict …).txt"

CASES: tuple[Case, ...] = (
    Case(
        "Both edit one file",
        {PLAN: "draft"},
        once(write(PLAN, "Ann’s"), write(PLAN, "Bob’s")),
        {PLAN: "Bob’s", COPY: "Ann’s"},
        1,
        "Both stay. One has the name, the same one on every device; the other lies beside it as a conflict copy.",
    ),
    Case(
        "Both make the same edit",
        {PLAN: "draft"},
        once(write(PLAN, "final"), write(PLAN, "final")),
        {PLAN: "final"},
        0,
        "Nothing is in conflict: the contents are equal.",
    ),
    Case(
        "One edits, one deletes",
        {PLAN: "draft"},
        once(write(PLAN, "Ann’s"), delete(PLAN)),
        {PLAN: "Ann’s"},
        0,
        "The edit stays. A deletion removes only what its user had seen.",
    ),
    Case(
        "One renames, one edits",
        {PLAN: "draft"},
        once(rename(PLAN, "ideas.txt"), write(PLAN, "Bob’s")),
        {"ideas.txt": "Bob’s"},
        0,
        "Both happen: the file has the new name and the new content.",
    ),
    Case(
        "Both rename one file",
        {PLAN: "draft"},
        once(rename(PLAN, "ideas.txt"), rename(PLAN, "notes.txt")),
        {"notes.txt": "draft"},
        0,
        "The file has one of the two names, the same one on every device.",
    ),
    Case(
        "One renames, one deletes",
        {PLAN: "draft"},
        once(rename(PLAN, "ideas.txt"), delete(PLAN)),
        {"ideas.txt": "draft"},
        0,
        "The file stays under its new name.",
    ),
    Case(
        "One deletes a directory, one edits inside",
        {"trip": DIRECTORY, "trip/map.txt": "old map", "trip/costs.txt": "costs"},
        once(delete("trip"), write("trip/map.txt", "Bob’s map")),
        {"trip": DIRECTORY, "trip/map.txt": "Bob’s map"},
        0,
        "What was edited stays, and the directories above it; the rest is deleted.",
    ),
    Case(
        "One renames a directory, one edits inside",
        {"trip": DIRECTORY, "trip/map.txt": "old map"},
        once(rename("trip", "journey"), write("trip/map.txt", "Bob’s map")),
        {"journey": DIRECTORY, "journey/map.txt": "Bob’s map"},
        0,
        "Both happen: the edit is in the renamed directory.",
    ),
    Case(
        "A file, a directory and one name",
        {},
        once(write("trip", "a file"), (directory("trip"), write("trip/map.txt", "Bob’s map"))),
        {"trip": DIRECTORY, "trip/map.txt": "Bob’s map", "trip (conflict …)": "a file"},
        1,
        "The directory keeps the name, the file lies beside it.",
    ),
    Case(
        "A file, a link and one name",
        {},
        once(link("latest", "plan.txt"), write("latest", "a file")),
        {"latest": "a file", "latest (conflict …)": "-> plan.txt"},
        1,
        "The file keeps the name, the link lies beside it.",
    ),
    Case(
        "A directory, a link and one name",
        {},
        once(directory("latest"), link("latest", "plan.txt")),
        {"latest": DIRECTORY, "latest (conflict …)": "-> plan.txt"},
        1,
        "The directory keeps the name, the link lies beside it.",
    ),
    Case(
        "Both create one name with equal content",
        {},
        once(write(PLAN, "same"), write(PLAN, "same")),
        {PLAN: "same"},
        0,
        "It is one file.",
    ),
    Case(
        "Both create one name with different content",
        {},
        once(write(PLAN, "Ann’s"), write(PLAN, "Bob’s")),
        {PLAN: "Ann’s", COPY: "Bob’s"},
        1,
        "Both stay; the same one has the name on every device. Nothing tells what each changed, so no merge.",
    ),
    Case(
        "Both create one directory",
        {},
        once((directory("trip"), write("trip/a", "A")), (directory("trip"), write("trip/b", "B"))),
        {"trip": DIRECTORY, "trip/a": "A", "trip/b": "B"},
        0,
        "It is one directory with what both put in.",
    ),
    Case(
        "A conflict on a conflict copy",
        {PLAN: "draft"},
        (
            *once(write(PLAN, "Ann’s"), write(PLAN, "Bob’s")),
            *once(write(COPY, "Ann’s again"), write(COPY, "Bob’s turn")),
        ),
        {PLAN: "Bob’s", COPY: "Bob’s turn", "plan (conflict …) (conflict …).txt": "Ann’s again"},
        1,
        "A conflict copy is a file like any other: both versions of it stay.",
    ),
    Case(
        "One makes a file executable, one edits it",
        {"run.sh": "draft"},
        once(executable("run.sh"), write("run.sh", "Bob’s")),
        {"run.sh": "Bob’s, executable"},
        0,
        "Both happen: the file has the new content and may be executed.",
    ),
    Case(
        "Each moves a directory into the other",
        {"red": DIRECTORY, "red/1": "one", "blue": DIRECTORY, "blue/2": "two"},
        once(rename("red", "blue/red"), rename("blue", "red/blue")),
        {"blue": DIRECTORY, "blue/2": "two", "blue/red": DIRECTORY, "blue/red/1": "one"},
        0,
        "One of the two moves happens, the same one on every device; the other would make a circle.",
    ),
)
