"""Planned actions in groups that stand or fall together, and which of them wait for content.

Invariant: actions that touch one path keep their order and begin only when all content that they need is staged, so a
path is never emptied to wait for what replaces it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from meshsync.ids import NodeId
from meshsync.sync.actions import Action, InParked, Move, Parked, Place, WriteFile
from meshsync.sync.disk_rows import Path


@dataclass(slots=True, eq=False)
class Group:
    """Actions in order; `waiting` are nodes whose content is not staged yet."""

    actions: list[Action] = field(default_factory=list)
    waiting: set[NodeId] = field(default_factory=set)


def group_actions(actions: Iterable[Action], staged: Iterable[NodeId] = ()) -> list[Group]:
    """Return the groups in order of their first action. `staged` are nodes whose content is there already."""
    ready = set(staged)
    by_place: dict[object, Group] = {}
    groups: list[Group] = []
    for action in actions:
        places = _places(action)
        found = list({id(by_place[place]): by_place[place] for place in places if place in by_place}.values())
        group = found[0] if found else Group()
        if not found:
            groups.append(group)
        for other in found[1:]:
            group.actions.extend(other.actions)
            group.waiting |= other.waiting
            groups.remove(other)
            for place, owner in by_place.items():
                if owner is other:
                    by_place[place] = group
        group.actions.append(action)
        if isinstance(action, WriteFile) and action.node not in ready:
            group.waiting.add(action.node)
        for place in places:
            by_place[place] = group
    return groups


def _places(action: Action) -> list[object]:
    places = [action.source, action.target] if isinstance(action, Move) else [action.target]
    if isinstance(action, WriteFile) and action.lies_at is not None:
        places.append(action.lies_at)
    return [_key(place) for place in places]


def _key(place: Place) -> object:
    if isinstance(place, InParked):
        return place.parked
    return place


def taken_out(group: Group) -> list[Path]:
    """Return the paths whose objects, directories with all in them perhaps, a group moves out of the tree."""
    exchanges = [action for action in group.actions if isinstance(action, Move) and action.exchange]
    return [move.target for move in exchanges if isinstance(move.source, Parked) and isinstance(move.target, tuple)]


def path_text(place: Place) -> Path:
    """Return a place as a path for messages."""
    if isinstance(place, Parked):
        return (b"(parked)",)
    return place.below if isinstance(place, InParked) else place
