"""History as users see it: versions of a path, of a folder, and conflicts."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from meshsync.agent import api_schema as api
from meshsync.agent.backup_folder import BackupFolder
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.handout import place_of
from meshsync.agent.history import unpack_content
from meshsync.agent.kept import kept_of
from meshsync.agent.observer import display
from meshsync.agent.status_report import time_text
from meshsync.content.record import Content, Kind
from meshsync.errors import ConfigError, NotFound
from meshsync.ids import DOT_SIZE_BYTES, DeviceId, Dot, NodeId, short
from meshsync.index.version_rows import VersionRow, VersionRows
from meshsync.limits import FOUND_LISTED_MAX, VERSIONS_LISTED_MAX
from meshsync.sync.disk_rows import Path as TreePath


def locate(agent: Agent, path: str) -> tuple[Folder, TreePath]:
    """Return the folder that an absolute path lies in, and the path within it.

    Raises NotFound, ConfigError (in what is kept here as a backup).
    """
    given = Path(path)
    for folder in agent.folders.values():
        try:
            inside = given.relative_to(folder.root_path)
        except ValueError:
            continue
        return folder, tuple(os.fsencode(part) for part in inside.parts)
    for kept in agent.backups.folders.values():
        if given.is_relative_to(kept.root):
            raise _unreadable(kept)
    raise NotFound("the path lies in no synced folder", path=path, next_step="meshsync status")


def find_folder(agent: Agent, name: str) -> Folder:
    """Return the folder with this name, id (or its beginning) or path.

    Raises NotFound, ConfigError (kept here as a backup).
    """
    for folder in sorted(agent.folders.values(), key=lambda each: each.handout is not None):
        place = str(folder.root_path) if folder.handout is None else os.fsdecode(place_of(folder.handout))
        if name in (folder.name, place) or (len(name) >= 8 and folder.id.hex().startswith(name)):
            return folder
    for folder in agent.folders.values():
        if Path(name).is_absolute() and Path(name).name == folder.name:
            return folder  # a command took the name for a path, because something is called so where it was typed
    kept = agent.backups.named(name)
    if kept is not None:
        raise _unreadable(kept)
    raise NotFound("there is no such folder", folder=name, next_step="meshsync status")


def _unreadable(kept: BackupFolder) -> ConfigError:
    return ConfigError(
        "this device keeps the folder as a backup and cannot read it",
        folder=kept.name,
        path=str(kept.root),
        next_step=f"Type it on a member. What is kept here: meshsync status. To end it: meshsync leave {kept.name}",
    )


def folders_of(agent: Agent, name: str) -> list[Folder]:
    """Return the named folder, or all if `name` is empty. Raises NotFound."""
    return [find_folder(agent, name)] if name else list(agent.folders.values())


def directories_of(agent: Agent, name: str) -> list[Folder]:
    """Return the named folder, or, if `name` is empty, all but those of single shared files. Raises NotFound."""
    return [folder for folder in folders_of(agent, name) if name or folder.handout is None]


def node_at(folder: Folder, path: TreePath) -> NodeId | None:
    """Return the node that is or was last at `path`."""
    shown = folder.replica.view.resolve(path) if path else None
    if shown is not None:
        return shown.face.node
    rows = folder.replica.versions.by_path(b"/".join(path))
    return rows[-1].node if rows else None


def rows_of(folder: Folder, path: TreePath) -> list[VersionRow]:
    """Return the versions of what is or was at `path`, oldest first. Blocking. Raises NotFound."""
    shown = folder.replica.view.resolve(path) if path else None
    node = node_at(folder, path)
    rows = history_of(folder.replica.versions, node, None if shown is None else shown.face.version)
    if not rows:
        raise NotFound("no version of this path is known", folder=folder.name, path=display(path))
    return rows


def history_of(versions: VersionRows, node: NodeId | None, shown: Dot | None) -> list[VersionRow]:
    """Return the versions of a node, oldest first, of which `shown` lies at its path.

    A conflict copy is a node without an entry of its own: its version was put on the node that it lost.
    """
    rows = versions.by_node(node) if node is not None else []
    lost = versions.get(shown) if shown is not None and all(row.dot != shown for row in rows) else None
    return rows if lost is None else sorted([*rows, lost], key=lambda row: (row.position, row.dot))


def find(folder: Folder, path: TreePath, version: str) -> VersionRow:
    """Return the version with this number at `path`, or with this id wherever it lay; empty: the newest at `path`.

    Blocking. Raises NotFound.
    """
    row = by_id(folder.replica.versions, version)
    return pick(rows_of(folder, path), version, path) if row is None else row


def by_id(versions: VersionRows, version: str) -> VersionRow | None:
    """Return the version with this id, None if `version` is no id of one.

    What lay at a path before something else took its place, or came there with the directory above it, has no
    number there: only the id names it.
    """
    if len(version) != 2 * DOT_SIZE_BYTES:
        return None
    with contextlib.suppress(ValueError):
        return versions.get(Dot(bytes.fromhex(version)))
    return None


def pick(rows: list[VersionRow], version: str, path: TreePath) -> VersionRow:
    """Return the row with number (from 1) `version`; empty: the newest. Raises NotFound."""
    if not version:
        return rows[-1]
    for number, row in enumerate(rows, 1):
        if version == str(number):
            return row
    raise NotFound(f"there is no version {version}", path=display(path), next_step=f"meshsync log {display(path)}")


def set_aside_here(folder: Folder, rows: Iterable[VersionRow]) -> set[Content]:
    """Return which contents of `rows` a decision of the user's set aside on this disk. Blocking."""
    wanted = {content for row in rows if (content := unpack_content(row.content)).kind is Kind.FILE}
    return kept_of(folder.root_path, wanted, folder.keys(), folder.cut_params)


def restored_of(rows: Iterable[VersionRow]) -> set[Dot]:
    """Return which versions of one node, oldest first, have again what it had before another content."""
    found: set[Dot] = set()
    earlier: set[bytes] = set()
    before = b""
    for row in rows:
        if row.change == "edited" and row.content != before and row.content in earlier:
            found.add(row.dot)
        before = row.content
        earlier.add(before)
    return found


def listed(agent: Agent, folder: Folder, rows: Iterable[VersionRow], aside: Collection[Content]) -> list[api.Version]:
    """Return rows of one node as answers, newest first. `aside` are contents that were set aside here."""
    names = agent.names()
    answers = []
    rows = list(rows)
    at_relay = folder.durability.acknowledged([row.dot for row in rows])
    restored = restored_of(rows)
    for number, row in enumerate(rows, 1):
        content = unpack_content(row.content)
        chain = folder.replica.chains.rows(row.dot[:32])  # type: ignore[arg-type]
        author = chain[0].device if chain else DeviceId(b"")
        here = folder.synced.rows.get(row.node)
        is_here = (here is not None and here.content == content) or content in aside
        kept = "here" if is_here else ("relay" if row.dot in at_relay else "")
        change: api.ChangeKind = "restored" if row.dot in restored else row.change  # type: ignore[assignment]
        answers.append(
            api.Version(
                n=number,
                id=row.dot.hex(),
                path=os.fsdecode(row.path),
                time=time_text(row.time_ns),
                device=names.get(author, short(author)),
                size=content.size,
                change=change,
                kept=kept,
            )
        )
    return answers[::-1]


def find_named(folder: Folder, name: str, deleted: bool) -> list[list[VersionRow]]:
    """Return the versions of each file that has or had `name`, the file that changed last first. Blocking.

    `name` is a pattern with `*`, `?` or `[]` for the whole last name of its path, or any part of that name; `deleted`:
    only of what is gone. At most FOUND_LISTED_MAX files.
    """
    plain = max(re.split(r"[*?\[\]]", name), key=len)
    pattern = name.lower() if plain != name else f"*{name.lower()}*"
    found: dict[NodeId, None] = {}
    for row in folder.replica.versions.named(os.fsencode(plain), VERSIONS_LISTED_MAX):
        last = os.fsdecode(row.path.rpartition(b"/")[2]).lower()
        is_gone = folder.replica.view.face(row.node) is None
        if fnmatch.fnmatchcase(last, pattern) and (is_gone or not deleted):
            found[row.node] = None
        if len(found) >= FOUND_LISTED_MAX:
            break
    return [folder.replica.versions.by_node(node) for node in found]


def all_versions(
    agent: Agent, folder: Folder, every: list[VersionRow], aside: Collection[Content], deleted: bool
) -> list[api.Version]:
    """Return `every` version of a folder, newest first; `deleted`: only of what is gone."""
    by_node: dict[NodeId, list[VersionRow]] = {}
    for row in reversed(every):
        by_node.setdefault(row.node, []).append(row)
    answers = []
    for node, rows in by_node.items():
        if not deleted or folder.replica.view.face(node) is None:
            answers.extend(listed(agent, folder, rows, aside))
    answers.sort(key=lambda answer: answer.time, reverse=True)
    return answers
