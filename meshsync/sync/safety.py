"""Weighs a finished plan and says what of it looks like an accident: absence is not deletion (`semantics.md` 4.8).

Invariant: pure; a hold delays publishing or applying here and never changes the view. What is weighed is not one plan
but all that one device did within a while: `recent` are the files it took away already, so many small steps weigh as
much as one large one. A file counts once, however often it changed.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meshsync.content.record import Content, Kind
from meshsync.ids import ChainId, DeviceId, Dot, NodeId, dot_parts
from meshsync.limits import (
    SAFETY_CHANGES_MIN,
    SAFETY_DELETED_SHARE_MAX,
    SAFETY_EMPTIED_MIN,
    SAFETY_REWRITTEN_SHARE_MAX,
)
from meshsync.sync.actions import Action, MakeLink, WriteFile, gone_by
from meshsync.sync.disk_rows import Path
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.reconcile import Frozen, Plan
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View

UNKNOWN = DeviceId(b"")
"""Stands for the author of a removal that nothing names any more."""


class Why(enum.Enum):
    """The reason of a hold. The value is the words for the user."""

    EMPTIED = "the folder is empty here although it held files"
    MASS_DELETION = "unusually many files were deleted"
    MASS_REWRITE = "unusually many files were changed"


class Side(enum.Enum):
    """What is held: telling others what was done here, or doing here what others did."""

    PUBLISH = "publish"
    APPLY = "apply"


class Change(enum.Enum):
    """How a content is taken away."""

    DELETION = "deletion"
    REWRITE = "rewrite"


class Cause(NamedTuple):
    """What is weighed together: one kind of change, by one device, on one side."""

    side: Side
    change: Change
    device: DeviceId


Baseline = Mapping[ChainId, int]
"""How far each chain was known when this device joined: what came before was never its user's to lose."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A change of more than `changes_min` files, and of more than a share of all, is held.

    So is the removal of the last file, if `emptied_min` files went at once.
    """

    changes_min: int = SAFETY_CHANGES_MIN
    emptied_min: int = SAFETY_EMPTIED_MIN
    deleted_share_max: float = SAFETY_DELETED_SHARE_MAX
    rewritten_share_max: float = SAFETY_REWRITTEN_SHARE_MAX

    def allows(self, change: Change, count: int, total: int) -> bool:
        """Tell whether `count` of `total` files is a user's ordinary work."""
        share = self.deleted_share_max if change is Change.DELETION else self.rewritten_share_max
        return count <= self.changes_min or count <= total * share


DEFAULT_POLICY = Policy()


@dataclass(slots=True)
class Suspect:
    """What a plan would take away for one cause: `files` are weighed, `nodes` are they and emptied directories.

    `places` are the paths on disk where the user did it, each with its nodes; empty on the applying side.
    """

    files: set[NodeId] = field(default_factory=set)
    nodes: set[NodeId] = field(default_factory=set)
    places: dict[Path, tuple[NodeId, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Held:
    """What must wait for the user: `files` of `total` are concerned; `nodes` and `paths` stay as they are."""

    side: Side
    why: Why
    files: frozenset[NodeId]
    total: int
    nodes: frozenset[NodeId]
    paths: frozenset[Path] = frozenset()

    def __or__(self, other: Held) -> Held:
        return Held(
            self.side,
            self.why,
            self.files | other.files,
            max(self.total, other.total),
            self.nodes | other.nodes,
            self.paths | other.paths,
        )

    @property
    def frozen(self) -> Frozen:
        """What the plan leaves out."""
        return Frozen(self.paths, self.nodes) if self.side is Side.PUBLISH else Frozen(nodes=self.nodes)


@dataclass(frozen=True, slots=True)
class Before:
    """What is known from before this plan, each by cause.

    `recent`: files taken away within the window; `burst`: those of them that went just now. `released`: nodes that the
    user let pass. `held`: causes of which everything waits, until the user decides, with the reason given.
    """

    recent: Mapping[Cause, Collection[NodeId]] = field(default_factory=dict)
    burst: Mapping[Cause, Collection[NodeId]] = field(default_factory=dict)
    released: Mapping[Cause, Collection[NodeId]] = field(default_factory=dict)
    held: Mapping[Cause, Why] = field(default_factory=dict)


@dataclass(slots=True)
class Verdict:
    """What of a plan is `held`, and the files that it may take away and that count from now on."""

    held: dict[Cause, Held] = field(default_factory=dict)
    passed: dict[Cause, set[NodeId]] = field(default_factory=dict)


def suspects(plan: Plan, synced: SyncedTree, view: View, own: DeviceId, baseline: Baseline) -> dict[Cause, Suspect]:
    """Return what `plan` would take away, by cause. `own` is this device."""
    found: dict[Cause, Suspect] = {}
    for change, places in ((Change.DELETION, plan.drops), (Change.REWRITE, plan.rewrites)):
        for path, nodes in places.items():
            suspect = found.setdefault(Cause(Side.PUBLISH, change, own), Suspect())
            suspect.places[path] = nodes
            _add(suspect, synced, nodes)
    for action in plan.apply:
        for node in _lost(action, synced, view):
            change = Change.DELETION if view.face(node) is None else Change.REWRITE
            device, names = _author(action, node, synced, view)
            if not names or any(_is_after(name, baseline) for name in names):
                _add(found.setdefault(Cause(Side.APPLY, change, device), Suspect()), synced, (node,))
    return found


def weigh(
    found: Mapping[Cause, Suspect],
    synced: SyncedTree,
    local: LocalTree,
    view: View,
    before: Before,
    policy: Policy = DEFAULT_POLICY,
) -> Verdict:
    """Return what of `found` must wait, and what may pass.

    A missing root never comes this far: it is reported by the scan, and nothing is reconciled. Content that is there
    under another name too is not lost; it is looked for only when it decides.
    """
    verdict = Verdict()
    for cause, suspect in found.items():
        released = before.released.get(cause, ())
        files = {node for node in suspect.files if node not in released}
        recent = before.recent.get(cause, ())
        why: Why | None = before.held.get(cause)
        if why is None and files and _is_emptied(cause, files, before.burst.get(cause, ()), local, policy):
            why = Why.EMPTIED
        elif why is None and files:
            files, why = _weigh(cause, files, recent, synced, local, view, policy)
        if why is None:
            verdict.passed[cause] = files
        elif nodes := frozenset(suspect.nodes.difference(released)):
            total = _total(synced, recent)
            held = frozenset(suspect.files.difference(released))
            verdict.held[cause] = Held(cause.side, why, held, total, nodes, _paths(suspect, nodes))
    return verdict


def _weigh(
    cause: Cause,
    files: set[NodeId],
    recent: Collection[NodeId],
    synced: SyncedTree,
    local: LocalTree,
    view: View,
    policy: Policy,
) -> tuple[set[NodeId], Why | None]:
    """Return the files that count, and why they must wait; None if they may pass."""
    if len(files | set(recent)) <= policy.changes_min:
        return files, None
    total = _total(synced, recent)
    if policy.allows(cause.change, len(files | set(recent)), total):
        return files, None
    kept = _contents(local) if cause.side is Side.PUBLISH else _shown_contents(view)
    lost = {node for node in files if synced.rows[node].content not in kept}
    if not lost or policy.allows(cause.change, len(lost | set(recent)), total):
        return lost, None
    return lost, Why.MASS_DELETION if cause.change is Change.DELETION else Why.MASS_REWRITE


def _is_emptied(cause: Cause, files: set[NodeId], burst: Collection[NodeId], local: LocalTree, policy: Policy) -> bool:
    """Tell whether the user's disk lost its last files, many at once."""
    if cause.side is not Side.PUBLISH or cause.change is not Change.DELETION:
        return False
    return len(files | set(burst)) >= policy.emptied_min and not local.has_files()


def _total(synced: SyncedTree, recent: Collection[NodeId]) -> int:
    """Return how many files there were before the recent changes."""
    files = sum(1 for row in synced.rows.values() if row.kind is not Kind.DIRECTORY)
    return files + sum(1 for node in recent if node not in synced.rows)


def _paths(suspect: Suspect, nodes: frozenset[NodeId]) -> frozenset[Path]:
    return frozenset(path for path, there in suspect.places.items() if not nodes.isdisjoint(there))


def _add(suspect: Suspect, synced: SyncedTree, nodes: Collection[NodeId]) -> None:
    suspect.nodes.update(nodes)
    suspect.files.update(node for node in nodes if synced.rows[node].kind is not Kind.DIRECTORY)


def _contents(local: LocalTree) -> set[Content]:
    return {row.content for row in local.walk()}


def _shown_contents(view: View) -> set[Content]:
    return {shown.content for _, shown in view.walk()}


def _lost(action: Action, synced: SyncedTree, view: View) -> Iterator[NodeId]:
    """Yield the nodes of which `action` takes away what lies on disk. Shown as one with something else is not lost."""
    yield from (node for node in gone_by(action) if node in synced.rows and view.face(node) is None)
    if isinstance(action, WriteFile | MakeLink):
        row = synced.rows.get(action.node)
        if row is not None and row.content != action.content:
            yield action.node


def restoring_causes(nodes: Collection[NodeId], synced: SyncedTree, view: View) -> dict[Cause, set[NodeId]]:
    """Return as whose change the plan will see it when this disk is given what the view shows of `nodes`, or nothing.

    Their user wants it: it is released before it is planned.
    """
    causes: dict[Cause, set[NodeId]] = {}
    for node in nodes:
        shown = view.shown(node)
        if shown is None:
            cause = Cause(Side.APPLY, Change.DELETION, _ender(node, synced, view)[0])
        else:
            version = None if shown.face.version is None else view.version(shown.face.version)
            cause = Cause(Side.APPLY, Change.REWRITE, UNKNOWN if version is None else version.stamp.device)
        causes.setdefault(cause, set()).add(node)
    return causes


def _author(action: Action, node: NodeId, synced: SyncedTree, view: View) -> tuple[DeviceId, list[Dot]]:
    """Return who took away what lies on disk of `node`, and the operations by which; unknown after a checkpoint."""
    if isinstance(action, WriteFile | MakeLink) and action.node == node:
        version = view.version(action.version)
        return (UNKNOWN, []) if version is None else (version.stamp.device, [version.dot])
    return _ender(node, synced, view)


def _ender(node: NodeId, synced: SyncedTree, view: View) -> tuple[DeviceId, list[Dot]]:
    """Return who removed what lies on disk of `node`, and the operations by which."""
    ended = [
        version.ended
        for name in synced.rows[node].versions
        if (version := view.version(name)) is not None and version.ended is not None
    ]
    return (max(ended).device, [stamp.dot for stamp in ended]) if ended else (UNKNOWN, [])


def _is_after(name: Dot, baseline: Baseline) -> bool:
    chain, seq, _ = dot_parts(name)
    return seq > baseline.get(chain, 0)
