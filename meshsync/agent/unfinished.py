"""What was planned for a folder and is not done yet, and what of it a new plan must cover together with its own scope.

Invariant: the places and contents of an action are those of the plan it came with. So whatever a new plan may move,
remove or need is planned again with it: a path below a directory that moves, a content that is taken away. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from meshsync.agent.work import Group, group_actions, may_begin, path_text, with_later
from meshsync.content.record import Content, Kind
from meshsync.ids import NodeId
from meshsync.sync.actions import Action, Move, Remove, WriteFile, gone_by, nodes_of
from meshsync.sync.disk_rows import Path
from meshsync.sync.reconcile import Scope
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View


class Unfinished:
    """Groups in the order of their plans. `synced` is what lies on this disk, as it is kept up to date."""

    def __init__(self, synced: SyncedTree) -> None:
        self.groups: list[Group] = []
        self._synced = synced
        self._given_up: set[NodeId] = set()  # the next plan may not want their contents

    def __bool__(self) -> bool:
        return bool(self.groups)

    def counts(self) -> tuple[int, int]:
        """Return how many contents are waited for, and how many actions are left."""
        return sum(len(group.waiting) for group in self.groups), sum(len(group.actions) for group in self.groups)

    def awaits(self, node: NodeId) -> bool:
        """Whether the content of `node` is still to come."""
        return any(node in group.waiting for group in self.groups)

    def has(self, node: NodeId) -> bool:
        """Whether something about `node` is still to be done."""
        return any(action.node == node for group in self.groups for action in group.actions)

    def path_of(self, node: NodeId) -> Path:
        """Return where something about `node` is still to be done, for messages."""
        targets = (action.target for group in self.groups for action in group.actions if action.node == node)
        return next(map(path_text, targets), ())

    # --- a new plan ------------------------------------------------------------------------------------------

    def widened(self, scope: Scope, view: View) -> Scope:
        """Add to the scope of a plan what is unfinished and has to do with it."""
        if not self.groups:
            return scope
        contents, above, moving = self._contents(scope, view), self._directories(scope), self._ways(scope, view)
        touched = {
            group
            for group in self.groups
            if _touches(group, scope.nodes, scope.paths)
            or _lies_below(group, above)
            or _moves(group, moving)
            or self._shares(group, contents)
        }
        return Scope(scope.paths, scope.nodes | nodes_in(with_later(self.groups, touched)))

    def drop(self, scope: Scope | None, actions: Collection[Action]) -> tuple[set[NodeId], set[NodeId]]:
        """Forget what the plan of `actions` for `scope` (None: everything) replaces, or makes wrong.

        Returns the nodes whose contents may not be wanted any more, and those that this plan did not look at: they are
        to be planned.
        """
        planned = {node for action in actions for node in nodes_of(action)}
        if scope is None:
            stale = set(self.groups)
        else:
            movers = [action for action in actions if isinstance(action, Move | Remove)]
            moved = {place for action in movers for place in _tree_places(action)}
            touched = {
                group
                for group in self.groups
                if _touches(group, scope.nodes | planned, scope.paths) or _lies_below(group, moved)
            }
            stale = with_later(self.groups, touched)
        dropped, self._given_up = self._given_up, set()
        dropped.update(action.node for group in stale for action in group.actions)
        self.groups = [group for group in self.groups if group not in stale]
        return dropped, set() if scope is None else nodes_in(stale) - scope.nodes - planned

    def add(self, actions: Collection[Action], staged: Iterable[NodeId]) -> None:
        """Take up a plan; of the nodes `staged` the contents are there."""
        self.groups += group_actions(actions, staged)

    # --- what becomes of it ----------------------------------------------------------------------------------

    def arrived(self, nodes: set[NodeId]) -> None:
        """The contents of `nodes` are staged."""
        if nodes:
            for group in self.groups:
                group.waiting -= nodes

    def ready(self, is_blocked: Callable[[Group], bool]) -> list[Group]:
        """Return what may be done now, in order."""
        return may_begin(self.groups, lambda group: not group.waiting and not is_blocked(group))

    def finish(self, groups: Collection[Group]) -> None:
        """These were carried out."""
        self.groups = [group for group in self.groups if group not in groups]

    def give_up(self, groups: set[Group]) -> set[NodeId]:
        """Forget these and what was to come after them; return the nodes that are to be planned anew."""
        given_up = with_later(self.groups, groups) if groups else groups
        self._given_up.update(action.node for group in given_up for action in group.actions)
        self.finish(given_up)
        return nodes_in(given_up)

    # --- what has to do with a scope -------------------------------------------------------------------------

    def _contents(self, scope: Scope, view: View) -> set[Content]:
        """Return the contents that the scope's nodes have on this disk, and those that they are to have."""
        found = {row.content for node in scope.nodes if (row := self._synced.rows.get(node)) is not None}
        found |= {shown.content for node in scope.nodes if (shown := view.shown(node)) is not None}
        return {content for content in found if content.kind is Kind.FILE and content.size}

    def _directories(self, scope: Scope) -> set[Path]:
        """Return where directories of the scope lie: they may move, or go."""
        rows = self._synced.rows
        directories = (node for node in scope.nodes if node in rows and rows[node].kind is Kind.DIRECTORY)
        return {path for node in directories if (path := self._synced.path_of(node)) is not None}

    def _ways(self, scope: Scope, view: View) -> set[Path]:
        """Return the directories above what the scope's nodes are and are to be."""
        if not any(isinstance(action, Move | Remove) for group in self.groups for action in group.actions):
            return set()
        paths = {path for node in scope.nodes for path in (self._synced.path_of(node), view.path_of(node)) if path}
        return {path[:depth] for path in paths for depth in range(1, len(path))}

    def _shares(self, group: Group, contents: set[Content]) -> bool:
        """Whether what a group waits for, or takes away, may be what the scope takes away, or needs."""
        if not contents:
            return False
        for action in group.actions:
            if isinstance(action, WriteFile) and action.content in contents:
                return True
            for node in (action.node, *gone_by(action)):
                row = self._synced.rows.get(node)
                if row is not None and row.content in contents:
                    return True
        return False


def nodes_in(groups: Iterable[Group]) -> set[NodeId]:
    """Return all nodes that these groups are for."""
    return {node for group in groups for node in group.nodes}


def _touches(group: Group, nodes: Collection[NodeId], paths: Collection[Path]) -> bool:
    if any(node in nodes for node in group.nodes):
        return True
    if not paths:
        return False
    targets = (path_text(action.target) for action in group.actions)
    return any(path[:depth] in paths for path in targets for depth in range(len(path) + 1))


def _lies_below(group: Group, directories: set[Path]) -> bool:
    if not directories:
        return False
    places = (place for action in group.actions for place in _tree_places(action))
    return any(place[:depth] in directories for place in places for depth in range(1, len(place)))


def _moves(group: Group, ways: set[Path]) -> bool:
    movers = (action for action in group.actions if isinstance(action, Move | Remove))
    return bool(ways) and any(place in ways for action in movers for place in _tree_places(action))


def _tree_places(action: Action) -> list[Path]:
    """Return the places in the tree that an action changes."""
    places = (action.source, action.target) if isinstance(action, Move) else (action.target,)
    return [place for place in places if isinstance(place, tuple)]
