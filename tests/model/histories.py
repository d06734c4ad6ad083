"""Random histories of model devices, and what must hold of each.

Values are unique unless a history asks for copies, so a value that is neither shown nor knowingly removed is a loss.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from meshsync.content.record import Content, Kind, Place
from meshsync.sync.delivered import DeliveredEntry

from .device_model import DeviceModel, Path, file, link
from .view_model import DIRECTORY, ViewModel, flatten

NAMES = [b"a", b"b", b"c.txt"]


@dataclass
class History:
    """One run: devices, and what their users did to values."""

    devices: list[DeviceModel]
    written: dict[Content, int] = field(default_factory=dict)  # value -> times written
    removed: set[Content] = field(default_factory=set)  # overwritten or deleted by a user who had it on disk
    touched: set[Content] = field(default_factory=set)  # put again with another mtime, which a deletion does not beat

    def entries(self) -> list[DeliveredEntry]:
        """Return all entries in a causal order."""
        found = {key: entry for device in self.devices for key, entry in device.received.items()}
        return sorted(found.values(), key=lambda entry: (entry.time, entry.device, entry.seq))


def run_history(seed: int, devices: int, steps: int, copies: bool = False) -> History:
    """Run `steps` random steps. After each action on an up-to-date device, the view is what its user did."""
    rng = random.Random(seed)
    history = History([DeviceModel(number) for number in range(1, devices + 1)])
    for _ in range(steps):
        device = rng.choice(history.devices)
        roll = rng.random()
        if roll < 0.25:
            other = rng.choice(history.devices)
            device.receive(_prefix(rng, other))
        elif roll < 0.45:
            device.apply()
        else:
            act(rng, device, history, copies)
    return history


def settle(history: History) -> dict[Path, tuple[Content, bool]]:
    """Everyone receives and applies everything; return the tree that all show."""
    for device in history.devices:
        device.receive(history.entries())
        device.apply()
    trees = [device.shows() for device in history.devices]
    assert all(tree == trees[0] for tree in trees), "devices differ after settling"
    assert all(device.mtimes() == history.devices[0].mtimes() for device in history.devices), "mtimes differ"
    return trees[0]


def check_values(history: History, tree: dict[Path, tuple[Content, bool]]) -> None:
    """No value is lost, and none that was removed and never renamed or touched comes back."""
    shown = {content for content, _ in tree.values()}
    lost = history.written.keys() - shown - history.removed
    assert not lost, f"lost: {lost}"
    carried = set(history.touched)
    versions = ViewModel(history.entries()).versions
    for entry in history.entries():
        for op in entry.ops:
            if isinstance(op, Place):
                carried.update(versions[v].op.content for v in op.carries)
    back = {v for v in shown & history.removed - carried if history.written.get(v) == 1}
    assert not back, f"undeleted: {back}"


def _prefix(rng: random.Random, other: DeviceModel) -> list[DeliveredEntry]:
    """Entries of `other` up to some point: what it received is in causal order."""
    entries = list(other.received.values())
    return entries[: rng.randint(0, len(entries))] if rng.random() < 0.5 else entries


def act(rng: random.Random, device: DeviceModel, history: History, copies: bool) -> None:
    paths = sorted(device.disk)
    files = [path for path in paths if device.disk[path].content != DIRECTORY]
    roll = rng.random()
    if roll < 0.3 or not paths:
        path = _free_path(rng, device)
        if path is None:
            return
        content = DIRECTORY if rng.random() < 0.35 else _value(rng, history, copies)
        device.create(path, content)
    elif roll < 0.35 and files:
        path = rng.choice(files)
        history.touched.add(device.disk[path].content)
        device.edit(path, device.disk[path].content)
    elif roll < 0.55 and files:
        path = rng.choice(files)
        old = device.disk[path].content
        content = _value(rng, history, copies)
        if content == old:
            return
        history.removed.add(old)
        device.edit(path, content)
    elif roll < 0.75:
        source, target = rng.choice(paths), _free_path(rng, device)
        if target is None or target[: len(source)] == source:
            return
        device.rename(source, target)
    elif roll < 0.95:
        path = rng.choice(paths)
        history.removed.update(
            item.content for at, item in device.disk.items() if at[: len(path)] == path and item.content != DIRECTORY
        )
        device.delete(path)
    elif files:
        path = rng.choice(files)
        if device.disk[path].content.kind is not Kind.FILE:
            return
        device.set_executable(path, not device.disk[path].executable)
    if device.fresh:
        view = {path: (s.face.content, s.face.executable) for path, s in device.view().items()}
        assert view == device.shows(), "the view is not what the user did"
        assert {path: s.face.mtime_ns for path, s in device.view().items()} == device.mtimes(), "another mtime"


def _free_path(rng: random.Random, device: DeviceModel) -> Path | None:
    parents: list[Path] = [(), *(p for p in sorted(device.disk) if device.disk[p].content == DIRECTORY)]
    path = (*rng.choice(parents), rng.choice(NAMES))
    return None if path in device.disk or len(path) > 4 else path


def _value(rng: random.Random, history: History, copies: bool) -> Content:
    if copies and history.written and rng.random() < 0.4:
        value = rng.choice(list(history.written))
    else:
        number = len(history.written) + 1
        value = link(number) if rng.random() < 0.1 else file(number)
    history.written[value] = history.written.get(value, 0) + 1
    return value


def model_tree(entries: list[DeliveredEntry]) -> dict[Path, tuple[Content, bool]]:
    """Return path -> (content, exec bit) as the model shows `entries`."""
    return {p: (s.face.content, s.face.executable) for p, s in flatten(ViewModel(entries).root).items()}
