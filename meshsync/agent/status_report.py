"""What the daemon says of itself. Invariant: `in sync` and `idle` are never said while work is known to remain."""

from __future__ import annotations

import datetime
from importlib.metadata import version

from meshsync.agent import api_schema as api
from meshsync.agent import backup_report, members_health, watch_health
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.link_table import route
from meshsync.agent.observer import display
from meshsync.content.record import Kind
from meshsync.folder.types import Reason
from meshsync.ids import DeviceId, NodeId, RecordId, dot_parts, short
from meshsync.sync.disk_rows import Path
from meshsync.sync.safety import Side
from meshsync.transport.base import Link


def time_text(time_ns: int) -> str:
    """Return a time in nanoseconds since 1970 as RFC 3339 in UTC."""
    moment = datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def is_relayed(folder: Folder) -> bool:
    """Whether a relay or backup stores the folder."""
    return bool(folder.replica.keepers)


def not_durable(folder: Folder) -> int:
    """Return how many versions are not durable and can become so; 0 where no relay stores the folder."""
    return folder.durability.owing().not_durable


def exchanging(agent: Agent, folder: Folder) -> bool:
    """Whether something is known to remain between this device and a linked member or relay."""
    replica = folder.replica
    heads = set(replica.chains.heads())
    for peer in folder.peers.values():
        if replica.lacks(peer.chains) or not replica.has_membership(RecordId(peer.membership_head)):
            return True
        if not heads <= set(peer.applied):
            return True
    for relay in replica.membership.relays:
        client = agent.relays.get(relay)
        if client is None or client.link is None or relay in folder.problems or folder.watch.is_convicted(relay):
            continue
        if not folder.reader(relay).caught_up:
            return True
        if relay not in folder.refusals and folder.relay_rows.unseen_entries(relay, 1):
            return True
    return any(_bringing(folder, backup) for backup in folder.replica.membership.backups())


def _bringing(folder: Folder, backup: DeviceId) -> bool:
    """Whether a backup that is linked lacks entries, or this device those that it has."""
    if backup not in folder.linked_relays or folder.watch.is_convicted(backup):
        return False
    if not folder.reader(backup).caught_up:
        return True
    return backup not in folder.refusals and bool(folder.relay_rows.unseen_entries(backup, 1))


def in_sync(agent: Agent, folder: Folder) -> bool:
    """Whether nothing is left to scan, publish, fetch, apply or tell, as far as this device knows.

    In a folder that this device was removed from, nothing is.
    """
    return folder.parted or (settled(agent, folder) and not folder.guard.holds)


def settled(agent: Agent, folder: Folder) -> bool:
    """Whether nothing is left but what a safeguard holds until its user decides."""
    return (
        folder.loop is not None
        and folder.loop.settled
        and not folder.joining
        and not folder.fetcher.pending
        and not exchanging(agent, folder)
    )


def folder_state(agent: Agent, folder: Folder) -> api.FolderState:
    """Return the state of one folder."""
    files = total = 0
    conflicts = 0
    for row in folder.rows():
        if row.order == 0 and (row.copy_of is not None or row.name != row.natural):
            conflicts += 1
        if row.kind is not Kind.DIRECTORY and row.order == 0:
            files += 1
            total += row.content.size
    loop, pool = folder.loop, folder.pool
    scan, fetch, apply = loop.counts() if loop is not None else (1, 0, 0)
    phase: api.FolderPhase = "syncing"
    if folder.is_paused and not folder.parted:
        phase = "paused"
    elif folder.parted or loop is None or loop.root_missing is not None or loop.problem:
        phase = "error"
    elif loop.phase == "scanning":
        phase = "scanning"
    elif settled(agent, folder):
        phase = "held" if folder.guard.holds else "in sync"
    role = folder.replica.membership.role(agent.keys.device)
    remaining = pool.total_bytes if pool is not None else 0
    names: dict[int, api.Role] = {1: "owner", 2: "writer", 3: "reader", 4: "backup"}
    return api.FolderState(
        id=folder.id.hex(),
        name=folder.name,
        path=str(folder.root_path),
        state=phase,
        files=files,
        bytes=total,
        pending=api.Pending(scan=scan, publish=0, fetch=fetch, apply=apply),
        not_durable=not_durable(folder),
        conflicts=conflicts,
        held=sum(hold.count for hold in folder.guard.holds.values()),
        not_kept=folder.durability.owing().not_kept,
        versions=folder.replica.versions.count(),
        role=names[int(role)] if role is not None else "reader",
        relayed=is_relayed(folder),
        freshness_unverified=folder.freshness.unverified,
        done_bytes=total,
        total_bytes=total + remaining,
    )


def device_states(agent: Agent) -> list[api.DeviceState]:
    """Return every other device that a folder is shared with."""
    names = agent.names()
    states = []
    for device, name in sorted(names.items(), key=lambda item: item[1]):
        if device == agent.keys.device or not any(_is_awaited(folder, device) for folder in agent.folders.values()):
            continue
        link = agent.links.get(device)
        seen = agent.links.seen_ns.get(device)
        path: api.LinkPath = "offline"
        if link is not None:
            path = "lan" if route(link.address) == "lan" else "direct"
        states.append(
            api.DeviceState(
                id=device.hex(),
                name=name,
                path=path,
                rtt_ms=_rtt_ms(link),
                seen=time_text(agent.runtime.wall_time_ns()) if link else (time_text(seen) if seen else None),
                address=link.address if link is not None else "",
            )
        )
    return states


def _is_awaited(folder: Folder, device: DeviceId) -> bool:
    """Whether `device` may come: a recovery sheet is a member that never does."""
    return folder.knows(device) and not folder.replica.membership.members[device].enrolled_by


def health(agent: Agent) -> list[api.HealthItem]:
    """Return what the user should know."""
    items = []
    for told in agent.codes.tried_in_vain():
        name = agent.folders[told.ticket.folder].name if told.ticket.folder in agent.folders else "a folder"
        what = f"{name}: code {told.code.number} was tried with wrong words and admits nobody any more"
        items.append(api.HealthItem(what=what, why="mistyped, or guessed by somebody else", next="meshsync share PATH"))
    for waiting, refusal in agent.unopened.items():
        what = f"folder {short(waiting)} is not open yet"
        items.append(api.HealthItem(what=what, why=refusal.what, next=refusal.next_step, code=type(refusal).__name__))
    for folder in agent.folders.values():
        if folder.parted:
            if folder.handout is None:
                items.append(members_health.parted(folder))
            continue
        items += members_health.items(folder, agent.members.notes(folder))
        loop = folder.loop
        for device, what in folder.problems.items():
            kind = "backup" if folder.is_backup(device) else "relay"
            who = f"{kind} {short(device)}" if device else str(folder.root_path)
            items.append(api.HealthItem(what=f"{folder.name}: {what}", why=who, next="meshsync doctor"))
        for relay, error in folder.refusals.items():
            client = agent.relays.get(relay)
            where = f"backup {short(relay)}" if client is None else f"relay {client.address.host}"
            what = f"{folder.name}: what is new waits to be stored at the {where}"
            code = type(error).__name__
            items.append(api.HealthItem(what=what, why=error.what, next=error.next_step, code=code))
        for hold in folder.guard.holds.values():
            what = f"{folder.name}: {hold.count} of {hold.total} files are held, {hold.why.value}"
            where = "others are not told" if hold.cause.side is Side.PUBLISH else "not done here"
            items.append(api.HealthItem(what=what, why=where, next="meshsync held"))
        if loop is not None and loop.problem:
            items.append(api.HealthItem(what=f"{folder.name}: {loop.problem}", next="meshsync doctor"))
        if loop is not None:
            for path, why in sorted(loop.blocked().items())[:20]:
                what = f"{folder.name}: {display(path)} waits"
                items.append(api.HealthItem(what=what, why=why, next=help_for(why, path)))
            for path, (node, rejected) in sorted(folder.sought.lost.items())[:20]:
                items.append(
                    api.HealthItem(
                        what=f"{folder.name}: {display(path)} could not be brought back",
                        why=lost_because(agent, folder, node),
                        next=f"Start meshsync on a device that may have it, or give it up: meshsync release {rejected}",
                        code="SourceUnavailable",
                    )
                )
            for path in sorted(loop.only_here())[:20]:
                items.append(
                    api.HealthItem(
                        what=f"{folder.name}: {display(path)} was changed here, and stays only here",
                        why="this device may only read the folder",
                        next=f"Copy it elsewhere, or ask an owner: meshsync role {agent.options.name} writer",
                        code="RoleForbids",
                    )
                )
        for name, sources in sorted(folder.fetcher.waiting_for().items())[:20]:
            if sources:
                items.append(
                    api.HealthItem(
                        what=f"{folder.name}: {name} cannot be completed",
                        why=f"its content is damaged at {', '.join(sources)}",
                        next="Bring a device online that has the file.",
                    )
                )
        unreadable = folder.replica.unreadable
        for author in sorted({error.device for error in unreadable.values()})[:20]:
            why = next(error.what for error in unreadable.values() if error.device == author)
            what = f"{folder.name}: changes of device {author} are skipped, because they are malformed"
            items.append(api.HealthItem(what=what, why=why, next="Update meshsync on both devices."))
        items += watch_health.items(agent, folder, time_text)
    items += backup_report.health(agent)
    for client in agent.relays.values():
        if client.problem:
            items.append(api.HealthItem(what=f"the relay {client.address.host} cannot be reached", why=client.problem))
    if agent.dialer.unavailable:
        items.append(api.HealthItem(what="devices on this network cannot be found", why=agent.dialer.unavailable))
    return items


def lost_because(agent: Agent, folder: Folder, node: NodeId) -> str:
    """Return why a rejection could not bring `node` back: who wrote it, and who was not asked for it."""
    view, membership, names = folder.replica.view, folder.replica.membership, agent.names()
    face = view.face(node)
    chain = [] if face is None or face.version is None else folder.replica.chains.rows(dot_parts(face.version)[0])
    author = names.get(chain[0].device, short(chain[0].device)) if chain else "a device"
    why = f"{author} wrote it, it was last here and was deleted here, and nobody who can be reached now has it"
    away = sorted(
        name
        for device, name in names.items()
        if device != agent.keys.device and membership.may_read(device) and device not in folder.peers
    )
    return why + (f"; not reachable: {', '.join(away)}" if away else "")


def relay_states(agent: Agent) -> list[api.RelayState]:
    """Return every relay that this agent keeps a link to."""
    return [
        api.RelayState(address=client.address.address, connected=client.link is not None, rtt_ms=_rtt_ms(client.link))
        for client in agent.relays.values()
    ]


def help_for(why: str, path: Path) -> str:
    """Return what helps where the change of `path` waits on this disk for `why`."""
    if Reason.NO_SPACE.value in why:
        return "Make room on the disk of the folder; it goes on by itself."
    return f"meshsync why {display(path)}"


def _rtt_ms(link: Link | None) -> float | None:
    return None if link is None or link.rtt_s is None else round(link.rtt_s * 1000, 1)


def status(agent: Agent) -> api.Status:
    """Return everything at a glance."""
    shown = [folder for folder in agent.folders.values() if folder.handout is None]
    folders = [folder_state(agent, folder) for folder in sorted(shown, key=lambda f: f.name)]
    idle = all(in_sync(agent, folder) and not not_durable(folder) for folder in agent.folders.values())
    return api.Status(
        idle=idle,
        device=api.DeviceName(id=agent.keys.device.hex(), name=agent.options.name),
        version=version("meshsync"),
        uptime_s=agent.runtime.monotonic() - agent.started_s,
        health=health(agent),
        relays=relay_states(agent),
        devices=device_states(agent),
        folders=folders,
        backups=backup_report.kept_folders(agent),
        saved=api.Saved(dedup_bytes=agent.counters.dedup_bytes, delta_bytes=agent.counters.delta_bytes),
    )


def stats(agent: Agent) -> api.Stats:
    """Return the counters, live links included."""
    links = dict(agent.counters.ended_links)

    def add(path: str, received: int, sent: int) -> None:
        before = links.get(path, (0, 0))
        links[path] = (before[0] + received, before[1] + sent)

    for member in agent.links.all():
        add(route(member.link.address), member.link.bytes_received, member.link.bytes_sent)
    for client in agent.relays.values():
        if client.link is not None:
            add("relay", client.link.bytes_received, client.link.bytes_sent)
    counters = agent.counters
    paths = {path: links.get(path, (0, 0)) for path in ("lan", "direct", "relay")}
    return api.Stats(
        links={path: api.LinkBytes(received=both[0], sent=both[1]) for path, both in paths.items()},
        content_bytes_fetched=counters.content_bytes_fetched,
        content_bytes_served=counters.content_bytes_served,
        chunks_fetched=counters.chunks_fetched,
        chunks_damaged=counters.chunks_damaged,
        chunks_reused=counters.chunks_reused,
        entries_published=counters.entries_published,
        entries_received=counters.entries_received,
        saved=api.Saved(dedup_bytes=counters.dedup_bytes, delta_bytes=counters.delta_bytes),
    )
