"""Planned actions in groups that stand or fall together, what of them waits for content, and which go first.

Invariant: actions that touch one path keep their order and begin only when all content that they need is staged, so a
path is never emptied to wait for what replaces it. A plan's paths are right in its order only: what lies in a directory
that an earlier action moves, or leaves one that a later action moves, keeps its order too. Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from meshsync.ids import NodeId
from meshsync.sync.actions import Action, InParked, MakeDirectory, Move, Parked, Place, Remove, WriteFile, nodes_of
from meshsync.sync.disk_rows import Path


@dataclass(slots=True, eq=False)
class Group:
    """Actions in order; `nodes` are all that they are for, `waiting` those whose content is not staged yet.

    The groups in `after` must have ended, those in `behind` must have ended or go before it in the same run.
    """

    actions: list[Action] = field(default_factory=list)
    nodes: set[NodeId] = field(default_factory=set)
    waiting: set[NodeId] = field(default_factory=set)
    after: set[Group] = field(default_factory=set)
    behind: set[Group] = field(default_factory=set)


def group_actions(actions: Iterable[Action], staged: Iterable[NodeId] = ()) -> list[Group]:
    """Return the groups in an order in which all could go. `staged` are nodes whose content is there already."""
    plan, ready = list(actions), set(staged)
    edges = _edges(plan)
    owner = _by_place(plan)
    while True:
        order = _order(owner, edges)
        left = set(owner) - set(order)
        if not left:
            break
        first = min(left)
        owner = [first if each in left else each for each in owner]  # they wait for each other: all or nothing
    groups = {number: Group() for number in order}
    for at, action in enumerate(plan):
        group = groups[owner[at]]
        group.actions.append(action)
        group.nodes |= nodes_of(action)
        if isinstance(action, WriteFile) and action.node not in ready:
            group.waiting.add(action.node)
    for earlier, later, strictly in edges:
        one, other = groups[owner[earlier]], groups[owner[later]]
        if one is not other:
            (other.after if strictly else other.behind).add(one)
    return list(groups.values())


def may_begin(groups: Sequence[Group], fit: Callable[[Group], bool], *, together: bool = True) -> list[Group]:
    """Return those of the groups that are not done, in their order, which are `fit` and wait for none of the others.

    Not `together`: each of them may go alone.
    """
    alive = set(groups)
    going: set[Group] = set()
    found = []
    for group in groups:
        held_up = (group.behind - going) & alive if together else group.behind & alive
        if not held_up and not group.after & alive and fit(group):
            found.append(group)
            going.add(group)
    return found


def with_later(groups: Sequence[Group], chosen: set[Group]) -> set[Group]:
    """Return `chosen` and all groups that were to come after one of them."""
    found = set(chosen)
    for group in groups:  # in order, so one pass is enough
        if group.after & found or group.behind & found:
            found.add(group)
    return found


def _by_place(plan: Sequence[Action]) -> list[int]:
    """Return for each action the first one that it shares a place with, directly or through others."""
    owner = list(range(len(plan)))

    def root(at: int) -> int:
        while owner[at] != at:
            owner[at] = owner[owner[at]]
            at = owner[at]
        return at

    first: dict[object, int] = {}
    for at, action in enumerate(plan):
        for place in _places(action):
            one, other = root(first.setdefault(place, at)), root(at)
            owner[max(one, other)] = min(one, other)
    return [root(at) for at in range(len(plan))]


def _edges(plan: Sequence[Action]) -> list[tuple[int, int, bool]]:
    """Return (earlier, later, strictly) for actions of which one is at a directory above the other."""
    movable = {place for action in plan if isinstance(action, Move | Remove) for place in _places(action)}
    at_place: dict[object, list[tuple[int, bool]]] = {}  # what changes what a path below means
    below: dict[object, list[int]] = {}
    edges: list[tuple[int, int, bool]] = []
    for at, action in enumerate(plan):
        is_move = isinstance(action, Move)
        for place in _places(action):
            if isinstance(place, tuple):
                for depth in range(1, len(place)):
                    above = place[:depth]
                    edges += [(earlier, at, strictly) for earlier, strictly in at_place.get(above, ())]
                    if above in movable:
                        below.setdefault(above, []).append(at)
            if isinstance(action, Move | Remove):
                edges += [(earlier, at, is_move) for earlier in below.get(place, ()) if earlier != at]
            if isinstance(action, Move | Remove | MakeDirectory):
                at_place.setdefault(place, []).append((at, is_move))
    return edges


def _order(owner: Sequence[int], edges: Iterable[tuple[int, int, bool]]) -> list[int]:
    """Return the owners, each after those that it waits for, the earliest first; a circle of them is left out."""
    waits: dict[int, set[int]] = {number: set() for number in owner}
    later: dict[int, set[int]] = {}
    for one, other, _ in edges:
        if owner[one] != owner[other]:
            waits[owner[other]].add(owner[one])
            later.setdefault(owner[one], set()).add(owner[other])
    ready = [number for number, before in waits.items() if not before]
    heapq.heapify(ready)
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(number)
        for other in later.get(number, ()):
            waits[other].discard(number)
            if not waits[other]:
                heapq.heappush(ready, other)
    return order


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
