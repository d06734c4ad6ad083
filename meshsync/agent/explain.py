"""Why a path is not in sync, or that it is: one state, its reason in plain words, and what to type next.

Invariant: of several reasons the one is told that has to go away first; "in sync" is said only where none is known.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

from meshsync.agent import api_schema as api
from meshsync.agent import resolving, status_report, versions_report
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.in_conflict import conflict_at
from meshsync.agent.observer import display
from meshsync.folder.names import CONTROL_NAME
from meshsync.folder.types import Reason
from meshsync.ids import DeviceId, NodeId, short
from meshsync.index.version_rows import VersionRow
from meshsync.sync.disk_rows import Path
from meshsync.sync.listing import Shown


@dataclass(frozen=True, slots=True)
class _Why:
    state: str
    words: str
    waits_for: str | None = None
    next: str | None = None


def explain(agent: Agent, folder: Folder, inside: Path, path: str) -> api.Why:
    """Explain `inside`, which is at the absolute `path`. Belongs to the loop; never waits."""
    shown = folder.replica.view.resolve(inside) if inside else None
    rows = _history(folder, inside, shown)
    why = (
        _folder_wide(folder)
        or _unobserved(folder, inside)
        or _paused(folder)
        or _held(folder, inside, shown)
        or _lost(agent, folder, inside)
        or _blocked(folder, inside)
        or _unfinished(agent, folder, inside, shown)
        or _conflict(agent, folder, inside, path)
        or _absent(agent, folder, inside, shown, rows)
        or _not_durable(agent, folder, shown)
        or _Why("in sync", "What lies here is the newest version that this device knows of.")
    )
    name = shown.face.version if shown is not None else None
    version = folder.replica.view.version(name) if name is not None else None
    return api.Why(
        path=path,
        state=why.state,
        explanation=why.words,
        version=None if name is None else name.hex(),
        device=_author(agent, folder, name or (rows[-1].dot if rows else None)) or None,
        based_on=[before.hex() for before in (version.replaces if version is not None else ())],
        waits_for=why.waits_for,
        next=why.next,
    )


def _history(folder: Folder, inside: Path, shown: Shown | None) -> list[VersionRow]:
    node = versions_report.node_at(folder, inside)
    version = None if shown is None else shown.face.version
    return versions_report.history_of(folder.replica.versions, node, version)


def _author(agent: Agent, folder: Folder, dot: bytes | None) -> str:
    chain = folder.replica.chains.rows(dot[:32]) if dot is not None else []  # type: ignore[arg-type]
    return agent.names().get(chain[0].device, short(chain[0].device)) if chain else ""


def _folder_wide(folder: Folder) -> _Why | None:
    loop = folder.loop
    if loop is None or loop.root_missing is not None:
        words = folder.problems.get(DeviceId(b""), "the folder is not open yet")
        if loop is not None and loop.root_missing is not None:
            words = loop.root_missing.state.value
        return _Why("error", f"Nothing of this folder is synced: {words}.", words, "meshsync status")
    if loop.problem:
        return _Why(
            "error", f"The folder could not be brought up to date: {loop.problem}", loop.problem, "meshsync doctor"
        )
    if folder.joining:
        words = "This device has just joined and does not have the whole list of files yet."
        return _Why("joining", words, "a device that has the folder", "meshsync devices")
    return None


def _unobserved(folder: Folder, inside: Path) -> _Why | None:
    if inside[:1] == (CONTROL_NAME,):
        return _Why("ignored", "This directory belongs to meshsync and is never synced.", "nothing")
    problem = folder.loop.problem_at(inside) if folder.loop is not None else None
    if problem is None:
        return None
    if problem == Reason.IGNORED.value:
        words = "A pattern in .meshignore matches it, so it is neither sent nor changed here."
        return _Why("ignored", words, problem, f"Edit {folder.root_path / '.meshignore'}")
    words = f"It cannot be looked at on this device ({problem}), so it is neither sent nor changed here."
    return _Why("not observed", words, problem, "Remove the cause, then: meshsync rescan")


def _paused(folder: Folder) -> _Why | None:
    if not folder.paused:
        return None
    words = "The folder is paused: nothing is exchanged with anyone until it is resumed."
    return _Why("paused", words, "meshsync resume", f"meshsync resume {shlex.quote(folder.name)}")


def _nodes(folder: Folder, inside: Path, shown: Shown | None) -> set[NodeId]:
    found = {row.node for row in folder.synced.at(inside)}
    return found | ({shown.face.node} if shown is not None else set())


def _held(folder: Folder, inside: Path, shown: Shown | None) -> _Why | None:
    nodes = _nodes(folder, inside, shown)
    for hold in folder.guard.holds.values():
        if nodes & (hold.nodes | hold.frozen.nodes) or any(inside[: len(p)] == p for p in hold.frozen.paths if p):
            words = f"It is part of a mass change that waits for your decision: {hold.why.value}."
            return _Why("held", words, f"your decision about {hold.id}", f"meshsync held {shlex.quote(folder.name)}")
    return None


def _lost(agent: Agent, folder: Folder, inside: Path) -> _Why | None:
    found = folder.sought.lost.get(inside)
    if found is None:
        return None
    node, hold = found
    words = f"It could not be brought back: {status_report.lost_because(agent, folder, node)}."
    return _Why("lost", words, "a device that has it", f"meshsync release {hold}")


def _blocked(folder: Folder, inside: Path) -> _Why | None:
    for path, reason in folder.loop.blocked().items() if folder.loop is not None else ():
        if path and inside[: len(path)] == path:
            at = "" if path == inside else f" at {display(path)}"
            words = f"A change from another device cannot be made on this disk{at}: {reason}. It is tried again."
            return _Why("blocked", words, reason, "Remove the cause; it is then done by itself.")
    return None


def _unfinished(agent: Agent, folder: Folder, inside: Path, shown: Shown | None) -> _Why | None:
    assert folder.loop is not None
    nodes = _nodes(folder, inside, shown)
    if shown is not None and any(folder.loop.awaits(node) for node in nodes):
        return _awaited(agent, folder, inside, shown)
    if any(folder.loop.to_apply(node) for node in nodes):
        return _Why("waiting", "It is about to be changed on this disk.", "this device", "meshsync wait")
    local, synced = folder.loop.seen(inside), folder.synced.at(inside)
    if local is None and not synced:
        return None if shown is None else _Why("waiting", "It is not on this disk yet.", "this device", "meshsync wait")
    if local is None or not synced or local.content != synced[0].content:
        words = "It was changed on this device, and the others are told as soon as it is read."
        return _Why("not published", words, "this device", "meshsync wait")
    return None


def _awaited(agent: Agent, folder: Folder, inside: Path, shown: Shown) -> _Why:
    who = _author(agent, folder, shown.face.version) or "another device"
    names = agent.names()
    linked = sorted(names.get(device, short(device)) for device in folder.peers)
    relays = [c.address.host for c in agent.relays.values() if c.link is not None and status_report.is_relayed(folder)]
    stuck = folder.fetcher.waiting_for().get(display(inside))
    if stuck:
        words = f"Its new content, by {who}, arrived damaged from {', '.join(stuck)}, and nobody else reachable has it."
        return _Why("waiting for content", words, who, "Bring a device online that has the file.")
    if stuck is None and (linked or relays):
        sources = ", ".join([*linked, *(f"the relay {host}" for host in relays)])
        words = f"Its new content, by {who}, is on its way; it is asked of {sources}."
        return _Why("waiting for content", words, sources, "meshsync wait")
    words = f"Its new content, by {who}, is not here yet, and nobody who has it can be reached now."
    return _Why("waiting for content", words, who, f"Start meshsync on {who}, or on another device that has the file.")


def _conflict(agent: Agent, folder: Folder, inside: Path, path: str) -> _Why | None:
    found = conflict_at(folder.synced, inside)
    if found is None:
        return None
    following = f"meshsync resolve {shlex.quote(path)} --keep mine|theirs|both|merged"
    copies = ", ".join(f"{display(at)} by {resolving.author(agent, folder, row)}" for at, row in found.copies)
    if inside == found.path:
        words = f"It was changed on several devices at once; the other versions lie beside it: {copies}."
    else:
        words = f"It is a version of {display(found.path)} that was made while another device changed that too."
    return _Why("conflict", words, "your decision", following)


def _absent(agent: Agent, folder: Folder, inside: Path, shown: Shown | None, rows: list[VersionRow]) -> _Why | None:
    if shown is not None or not inside:
        return None
    full = shlex.quote(str(folder.root_path / os.fsdecode(b"/".join(inside))))
    if not rows:
        return _Why(
            "unknown", "Nothing is known of this path: no device of the folder has had it.", None, "meshsync rescan"
        )
    by, change = _author(agent, folder, rows[-1].dot), rows[-1].change
    where = f" to {os.fsdecode(rows[-1].path)}" if change == "renamed" else ""
    words = f"It is not here because {by or 'somebody'} {'moved it' if where else 'deleted it'}{where}."
    return _Why("deleted", words, None, f"meshsync log {full}" if where else f"meshsync restore {full}")


def _not_durable(agent: Agent, folder: Folder, shown: Shown | None) -> _Why | None:
    if shown is None or shown.face.version is None or not status_report.is_relayed(folder):
        return None
    if folder.replica.versions.get(shown.face.version) is None or folder.durability.is_durable(shown.face.version):
        return None
    refusal = next(iter(folder.refusals.values()), None)
    if refusal is not None:
        words = f"It is in sync here, but no relay holds it: {refusal.what}."
        return _Why("not durable", words, "the relay", refusal.next_step or "meshsync doctor")
    linked = any(client.link is not None for client in agent.relays.values())
    if linked:
        words = "Every device that is online has or gets it, but the relay has not confirmed yet that it holds it."
        return _Why("not durable", words, "the relay", "meshsync wait --durable")
    words = "It is in sync here, but no relay holds it: the relay cannot be reached now."
    return _Why("not durable", words, "the relay", "meshsync doctor")
