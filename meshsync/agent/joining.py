"""Joining a folder with a ticket: through the inviter if it can be reached, else through a relay that stores it.

Invariant: this device is a member on the inviter's or the relay's chain before anything is written here; a try that
fails leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from meshsync.agent.conversation import RelayConversation
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import ADDRESSES_KEY, JOINING_KEY, Folder
from meshsync.agent.founding import check_root, enter_folder
from meshsync.agent.giving import holds_file
from meshsync.agent.handout import Taken, file_name, pack, place_of
from meshsync.agent.key_ring import keys_from_boxes, open_name
from meshsync.agent.link_table import route
from meshsync.agent.pairing import ReceivedChain, make_admission, pair_over_link, was_admitted
from meshsync.content.ticket import Ticket
from meshsync.errors import (
    AccessError,
    ConfigError,
    LinkClosed,
    MeshsyncError,
    NotFound,
    SourceUnavailable,
    TicketInvalid,
    TransientError,
)
from meshsync.ids import DeviceId, FolderId
from meshsync.limits import DIAL_TIMEOUT_S, JOIN_LAN_S, JOIN_TIMEOUT_S, PAIR_TRIES_MAX
from meshsync.metalog.membership import replay
from meshsync.metalog.membership_entry import open_membership
from meshsync.metalog.record_log import LogRecord, RecordKind
from meshsync.transport.base import Link, Priority
from meshsync.wire.relay_address import parse_relay_address
from meshsync.wire.relay_messages import (
    TICKET_PROOF_KIND,
    AlreadyThere,
    Append,
    Appended,
    AppendResult,
    Attach,
    Attached,
    MembershipPage,
    ReadMembership,
    RecordRefused,
    refusal_error,
    ticket_statement,
)


async def join_folder(agent: Agent, ticket: Ticket, path: str, first: DeviceId | None = None) -> tuple[Folder, str]:
    """Become a member and begin to sync; return the folder and the route: "lan", "direct" or "relay".

    `first` is the relay through which the inviter was met: it is asked before the inviter is looked for. Raises
    TicketInvalid, ConfigError (unusable path), SourceUnavailable (nobody who has the folder is reachable).
    """
    check_unused(agent, ticket)
    root, place = None, None
    if ticket.is_file:
        place = await _prepare_place(agent, path)
    elif path:
        root = await _prepare_root(agent, path)
    chain, via = await become_member(agent, ticket, first)
    opened = [open_membership(data) for data in chain]
    membership = replay(opened, ticket.folder)
    keys = keys_from_boxes(membership, ticket.keys.device, ticket.keys.box_secret)
    told = open_name(keys.secret, membership.genesis.folder_name)
    noted = {JOINING_KEY: ticket.inviter, ADDRESSES_KEY: "\n".join(ticket.addresses).encode()}
    if place is not None:
        name = os.fsdecode(file_name(told))
        noted.update([pack(Taken(os.fsencode(place.directory), os.fsencode(place.name or name)))])
    else:
        name = (told or "folder").replace("/", "_").strip(".") or "folder"
        if root is None:
            root = await _prepare_root(agent, str(Path.home() / name))
    home = await agent.runtime.in_thread(enter_folder, agent.home.path, agent.keys, keys, opened, root, name, noted)
    folder = await agent.open_made(home)
    folder.replica.ticket_keys = ticket.keys
    return folder, via


def check_unused(agent: Agent, ticket: Ticket) -> None:
    """Raise ConfigError if this device has the ticket's folder, TicketInvalid if the ticket has expired."""
    if ticket.folder in agent.folders:
        present = agent.folders[ticket.folder]
        what = "this device has the folder already" if present.handout is None else "this device has the file already"
        raise ConfigError(what, folder=present.name, next_step="meshsync status")
    if ticket.folder in agent.unopened:
        why = f"this device has the folder already, and waits for its disk: {agent.unopened[ticket.folder]}"
        raise ConfigError(why, next_step="meshsync status")
    kept = agent.backups.folders.get(ticket.folder)
    if kept is not None:
        next_step = f"To read it here, end that first: meshsync leave {kept.name}"
        raise ConfigError("this device keeps the folder as a backup", folder=kept.name, next_step=next_step)
    if ticket.expires_s < agent.runtime.wall_time_ns() // 10**9:
        raise TicketInvalid("the ticket has expired", next_step="Ask for a new ticket: meshsync share")


def taken_places(agent: Agent) -> list[Path]:
    """Return the directories that no other folder may be in, above or at: those of the folders, kept ones too."""
    roots = [folder.root_path for folder in agent.folders.values()]
    return roots + [kept.root for kept in agent.backups.folders.values()]


async def arrived(agent: Agent, folder: Folder) -> Path:
    """Return where a file that was handed over is, once it is there. Raises NotFound if its sharer deleted it
    meanwhile, ResourceError if it cannot be put there.
    """
    while True:
        count = agent.changes.count
        taken = folder.handout
        assert isinstance(taken, Taken)
        if taken.placed:
            return Path(os.fsdecode(place_of(taken)))
        problem = agent.handouts.problems.get(folder.id)
        if problem is not None:
            raise problem
        if holds_file(folder) is None:
            raise NotFound(
                "who shares the file has deleted it", path=folder.name, next_step=f"meshsync leave {folder.name}"
            )
        await agent.changes.after(count)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a shared file belongs: in `directory`, under its own name if `name` is empty."""

    directory: Path
    name: str


async def _prepare_place(agent: Agent, path: str) -> _Place:
    """Return where a shared file is to be put; nothing is there that it would replace. Raises ConfigError."""
    agent.handouts.check_room()
    target = Path(path) if path else Path.home()

    def prepare() -> _Place:
        if target.is_dir():
            return _Place(target, "")
        if os.path.lexists(target):
            raise ConfigError(
                "a file is there already", path=str(target), next_step="Name a directory, or a name that is free."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        return _Place(target.parent, target.name)

    try:
        return await agent.runtime.in_thread(prepare)
    except OSError as error:
        raise ConfigError(f"the directory cannot be made: {error.strerror}", path=str(target.parent)) from error


async def _prepare_root(agent: Agent, path: str) -> Path:
    target = Path(path)
    roots = taken_places(agent)

    def prepare() -> Path:
        target.mkdir(parents=True, exist_ok=True)
        return check_root(target, roots)

    try:
        return await agent.runtime.in_thread(prepare)
    except OSError as error:
        raise ConfigError(f"the directory cannot be made: {error.strerror}", path=path) from error


async def become_member(agent: Agent, ticket: Ticket, first: DeviceId | None) -> tuple[list[bytes], str]:
    """Return the membership chain with this device's admission, and the route.

    Raises TicketInvalid, SourceUnavailable (nobody who has the folder is reachable).
    """
    refused: MeshsyncError | None = None
    for text in ticket.relays:
        if first is not None and parse_relay_address(text).device == first:
            with contextlib.suppress(AccessError, TransientError, ConfigError):  # all ways are tried again below
                return await _join_at_relay(agent, ticket, text), "relay"
    wait_s = JOIN_LAN_S if ticket.relays else JOIN_TIMEOUT_S
    for _ in range(PAIR_TRIES_MAX):
        try:
            link = await _reach_inviter(agent, ticket, wait_s)
            now_s = agent.runtime.wall_time_ns() // 10**9
            chain = await pair_over_link(link, ticket, agent.keys, agent.options.label, now_s)
            return chain, route(link.address)
        except TicketInvalid as error:
            refused = error
            break
        except LinkClosed:
            continue  # another link between the two took its place
        except TransientError:
            break
    for text in ticket.relays:
        try:
            return await _join_at_relay(agent, ticket, text), "relay"
        except TicketInvalid as error:
            refused = error
        except (TransientError, ConfigError):
            continue
    if refused is not None:
        raise refused
    raise SourceUnavailable(
        "nobody who has the folder could be reached",
        next_step="Start the inviting device, or check that both are on one network.",
    )


async def _reach_inviter(agent: Agent, ticket: Ticket, wait_s: float) -> Link:
    live = agent.links.get(ticket.inviter)
    if live is not None:
        return live
    key = ticket.discovery_key
    waiter: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
    agent.joining[key] = waiter
    agent.dialer.add(ticket.addresses, key)
    agent.dialer.refresh()
    try:
        async with asyncio.timeout(wait_s):
            return await waiter
    except TimeoutError:
        raise SourceUnavailable("the inviting device does not answer") from None
    finally:
        del agent.joining[key]
        agent.dialer.remove(ticket.addresses)
        agent.dialer.forget(key)


async def _join_at_relay(agent: Agent, ticket: Ticket, text: str) -> list[bytes]:
    address = parse_relay_address(text)
    client = agent.relays.get(address.device) if address.device is not None else None
    link = client.link if client is not None else None
    own_link = link is None
    if link is None:
        link = await agent.endpoint.dial(
            address.address, expect=address.device, discovery_key=None, timeout_s=DIAL_TIMEOUT_S
        )
    try:
        refused: MeshsyncError | None = None
        for _ in range(PAIR_TRIES_MAX):
            conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
            try:
                statement = ticket_statement(ticket.folder, link.peer, agent.keys.device)
                signature = ticket.keys.sign(TICKET_PROOF_KIND, statement)
                await conversation.send(Attach(ticket.folder, b"", ticket.keys.device, signature))
                await conversation.expect(Attached)
                received = await _read_membership(conversation, ticket.folder)
                chain = received.entries
                known = received.membership
                if known is not None and was_admitted(known, ticket.keys.device, agent.keys.device):
                    return chain  # by an admission whose answer was lost
                now_s = agent.runtime.wall_time_ns() // 10**9
                admission = make_admission(chain, ticket, agent.keys, agent.options.label, now_s)
                await conversation.send(Append((LogRecord(int(RecordKind.MEMBERSHIP), admission),)))
                outcome = (await conversation.expect(AppendResult)).outcomes[0]
                if isinstance(outcome, Appended | AlreadyThere):
                    return [*chain, admission]
                if isinstance(outcome, RecordRefused):
                    refused = refusal_error(outcome)
            finally:
                conversation.reset()
        raise refused or SourceUnavailable("the relay did not take the admission")
    finally:
        if own_link:
            link.close("done")


async def _read_membership(conversation: RelayConversation, folder: FolderId) -> ReceivedChain:
    chain = ReceivedChain(folder)
    start, more = 1, True
    while more:
        await conversation.send(ReadMembership(start))
        page = await conversation.expect(MembershipPage)
        chain.add([record.data for record in page.records])
        more = page.more and bool(page.records)
        start = page.records[-1].index + 1 if page.records else start
    return chain
