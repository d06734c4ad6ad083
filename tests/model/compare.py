"""The engine held against the model: same entries, any order of arrival, same tree in every detail."""

from __future__ import annotations

import random

from meshsync.ids import NodeId
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.view import View
from tests.model.view_model import DIRECTORY, ViewModel, flatten


def shuffled(entries: list[DeliveredEntry], rng: random.Random) -> list[DeliveredEntry]:
    """Return the entries in a random order in which each comes after everything that it names."""
    waiting, view, out = list(entries), View(), []
    while waiting:
        ready = [entry for entry in waiting if not view.missing(entry)]
        entry = rng.choice(ready)
        waiting.remove(entry)
        view.vector[entry.chain] = entry.seq
        out.append(entry)
    return out


def view_of(entries: list[DeliveredEntry]) -> View:
    view = View()
    for entry in entries:
        view.apply(entry)
    return view


def engine_tree(view: View) -> dict[tuple[bytes, ...], object]:
    """Return everything that the view says of each path."""
    return {
        path: (
            shown.content,
            shown.executable,
            0 if shown.content == DIRECTORY else shown.face.mtime_ns,
            [(f.node, f.placement, f.versions, f.parent, f.name, f.copy_of) for f in shown.faces],
        )
        for path, shown in view.walk()
    }


def model_detail(entries: list[DeliveredEntry]) -> dict[tuple[bytes, ...], object]:
    return {
        path: (
            s.face.content,
            s.face.executable,
            s.face.mtime_ns,
            [(f.node, f.spot.placement, f.versions, f.spot.parent, f.spot.name, f.copy_of) for f in s.faces],
        )
        for path, s in flatten(ViewModel(entries).root).items()
    }


def check_lookups(view: View) -> None:
    """All ways to ask give one answer."""
    for path, shown in view.walk():
        found = view.resolve(path)
        assert found is not None and found.nodes == shown.nodes
        for node in shown.nodes:
            assert view.path_of(node) == path
            again = view.shown(node)
            assert again is not None and again.name == path[-1] and again.nodes == shown.nodes


def check_changed(before: dict[NodeId, object], after: dict[NodeId, object], changed: set[NodeId]) -> None:
    """Every node whose face or name differs was reported."""
    differing = {node for node in before.keys() | after.keys() if before.get(node) != after.get(node)}
    assert differing <= changed, f"not reported: {differing - changed}"


def names_by_node(view: View) -> dict[NodeId, object]:
    return {
        f.node: (path[-1], f.parent, f.placement, f.versions, shown.content, shown.executable, shown.nodes, f.mtime_ns)
        for path, shown in view.walk()
        for f in shown.faces
    }
