"""What devices wrote beyond their last accepted entry: listed, and taken over by an owner who wants it.

Such entries are kept and change nothing. Adopting them brings the files that they wrote, as they were last, into a new
directory of the folder, as files of whoever adopts them. Invariant: nothing that lies in the folder is touched, and
what cannot be fetched now stays listed.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field

from meshsync.agent import api_schema as api
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder, check_present
from meshsync.agent.history import pack_content, unpack_content
from meshsync.agent.members_names import named
from meshsync.agent.observer import display
from meshsync.agent.operations import Progress
from meshsync.agent.past import Was
from meshsync.agent.restoring import restore_in_place
from meshsync.codec.canonical import decode
from meshsync.content.batch import decode_batch
from meshsync.content.record import Kind, Put
from meshsync.content.seal import BlobKind, unseal_chunk
from meshsync.errors import MeshsyncError, NotFound, ResourceError
from meshsync.ids import DeviceId, EntryId, NodeId, dot
from meshsync.index.version_rows import VersionRow
from meshsync.limits import ENTRY_BATCH_BYTES_MAX, ENTRY_ENVELOPE_BYTES_MAX, PLAIN_NAME_TRIES
from meshsync.metalog.entry import Envelope
from meshsync.sync.disk_rows import Path as TreePath

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Quarantined:
    """What one device wrote beyond its end. `files` are by path, each as it was last; `others` are no files."""

    device: DeviceId
    entries: list[EntryId] = field(default_factory=list)
    files: dict[TreePath, VersionRow] = field(default_factory=dict)
    sizes: dict[TreePath, int] = field(default_factory=dict)
    others: int = 0


def quarantined(agent: Agent, folder: Folder) -> dict[DeviceId, Quarantined]:
    """Return what is in quarantine and not decided about yet, by device. Blocking."""
    found: dict[DeviceId, Quarantined] = {}
    adopted = agent.members.notes(folder).adopted
    rows = [folder.replica.chains.row(entry) for entry in folder.replica.quarantined if entry not in adopted]
    for row in sorted((row for row in rows if row is not None), key=lambda row: (row.time, row.id)):
        of_device = found.setdefault(row.device, Quarantined(row.device))
        of_device.entries.append(row.id)
        _read(folder, row.id, of_device)
    return found


def report(agent: Agent, folder: Folder) -> list[api.Quarantine]:
    """Return what is in quarantine as users see it. Blocking."""
    return [
        api.Quarantine(
            folder=folder.name,
            device=found.device.hex(),
            name=named(folder, found.device).name,
            entries=len(found.entries),
            files=[api.QuarantinedFile(path=display(path), size=size) for path, size in sorted(found.sizes.items())],
            others=found.others,
        )
        for found in quarantined(agent, folder).values()
    ]


async def adopt(
    agent: Agent, folder: Folder, device: DeviceId, request: api.AdoptRequest, progress: Progress
) -> api.AdoptResult:
    """Bring what `device` wrote beyond its end into the folder, or with `dismiss` only stop to list it.

    Raises NotFound if nothing of it is in quarantine, ConfigError if the folder is not there.
    """
    found = (await agent.runtime.in_thread(quarantined, agent, folder)).get(device)
    name = named(folder, device).name
    if found is None:
        raise NotFound("nothing of this device is in quarantine", device=name, folder=folder.name)
    adopted: list[str] = []
    missing: list[str] = []
    place = () if request.dry_run or request.dismiss else await agent.runtime.in_thread(_new_place, folder, name)
    left: dict[TreePath, str] = {}
    if place:
        wanted = [
            Was((*place, *path), unpack_content(row.content), False, row.mtime_ns)
            for path, row in sorted(found.files.items())
        ]
        left = dict((await restore_in_place(agent, folder, wanted, progress)).skipped)
    for path in sorted(found.files):
        if (why := left.get((*place, *path))) is not None:
            log.info("cannot adopt: %s", why)
            missing.append(display(path))
        else:
            adopted.append(display(path))
    if request.dismiss or (place and not missing):
        notes = agent.members.notes(folder)
        await agent.runtime.in_thread(notes.note_adopted, found.entries)
        agent.note_change()
    return api.AdoptResult(
        folder=folder.id.hex(),
        device=device.hex(),
        name=name,
        path=str(folder.root_path.joinpath(*map(os.fsdecode, place))) if place and adopted else "",
        files=[] if request.dismiss else adopted,
        missing=missing,
        dry_run=request.dry_run,
    )


def _read(folder: Folder, entry: EntryId, into: Quarantined) -> None:
    kept = folder.replica.log_rows.entry(entry)
    assert kept is not None, "a delivered entry is in the index"
    epoch = decode(Envelope, kept.envelope, ENTRY_ENVELOPE_BYTES_MAX).epoch
    try:
        data = unseal_chunk(folder.keys(), epoch, BlobKind.BATCH, kept.payload, ENTRY_BATCH_BYTES_MAX)
        batch = decode_batch(data, kept.chain, kept.seq)
    except MeshsyncError as error:
        log.info("a quarantined entry cannot be read: %s", error)
        into.others += 1
        return
    for index, op in enumerate(batch.ops):
        if not isinstance(op, Put) or op.content.kind is not Kind.FILE:
            into.others += 1
            continue
        name = dot(kept.chain, kept.seq, index)
        node = NodeId(name) if op.node is None else op.node
        joined = b"/".join(op.path)
        content = pack_content(op.content)
        into.files[op.path] = VersionRow(name, node, 0, batch.time_ns, "created", joined, content, op.mtime_ns)
        into.sizes[op.path] = op.content.size


def _new_place(folder: Folder, name: str) -> TreePath:
    """Make a directory of the folder in which nothing lies yet, and return its path. Blocking."""
    check_present(folder)
    plain = "".join(letter for letter in name if letter.isprintable() and letter not in "/\\:").strip(". ")[:40]
    for number in range(1, PLAIN_NAME_TRIES):
        made = f"From {plain or 'a removed device'}" + (f" {number}" if number > 1 else "")
        try:
            (folder.root_path / made).mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise ResourceError(f"cannot make a directory: {error.strerror}", path=str(folder.root_path)) from error
        return (os.fsencode(made),)
    raise ResourceError("too many directories of this name are there", path=str(folder.root_path))
