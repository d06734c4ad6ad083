"""The agent: one endpoint, discovery, links to members and relays, and every folder of this device.

Invariant: the only place where the shells meet. `start` returns with everything running, `stop` with nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshsync.agent import device_key, folder_home
from meshsync.agent.at_keeper import FolderAtKeeper
from meshsync.agent.backup_folder import BackupFolder
from meshsync.agent.backup_pull import PullFromRelay
from meshsync.agent.backups import Backups, Reserved
from meshsync.agent.changes import Changes
from meshsync.agent.code_serving import serve_code
from meshsync.agent.code_talk import DirectTalk, Talk
from meshsync.agent.codes import Codes
from meshsync.agent.conversation import Conversation
from meshsync.agent.counters import Counters
from meshsync.agent.dialer import Dialer
from meshsync.agent.faults import Faults
from meshsync.agent.folder import Folder
from meshsync.agent.folder_home import FolderHome
from meshsync.agent.handouts import Handouts
from meshsync.agent.home import Home
from meshsync.agent.invitations import Invitations
from meshsync.agent.key_ring import device_label, open_label
from meshsync.agent.link_table import LinkTable, route
from meshsync.agent.machine import SYSTEM, Machine
from meshsync.agent.member_link import MemberLink
from meshsync.agent.members_watch import MembersWatch
from meshsync.agent.modes import check_modes
from meshsync.agent.pairing import serve_pairing
from meshsync.agent.relay_client import RelayClient
from meshsync.agent.sheets import Sheets
from meshsync.crypto.identity import DeviceKeys
from meshsync.discovery.base import Discovery
from meshsync.errors import ConfigError, LinkClosed, MeshsyncError, ResourceError
from meshsync.ids import DeviceId, FolderId, short
from meshsync.limits import NEWCOMER_LINK_S, NEWCOMER_LINKS_MAX, RELAYS_MAX, RETRY_BLOCKED_S
from meshsync.metalog.membership_entry import SetRelay
from meshsync.runtime import Runtime
from meshsync.transport.base import Endpoint, Link, Policy
from meshsync.wire.peer_messages import CodeAsk, PairRequest
from meshsync.wire.relay_address import RelayAddress, parse_relay_address

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What `meshsync up` was asked for."""

    name: str
    listen: str
    relays: tuple[str, ...]
    engine: str
    fault: str = ""
    person: str = ""

    @property
    def label(self) -> str:
        """What members of a folder are told of this device: its name, and whose it is."""
        return device_label(self.name, self.person)


class Agent:
    """Belongs to one loop. `changes` counts everything that a user could see."""

    endpoint: Endpoint
    keys: DeviceKeys
    sheets: Sheets

    def __init__(
        self,
        runtime: Runtime,
        home: Home,
        options: Options,
        discoveries: Sequence[Discovery],
        machine: Machine = SYSTEM,
        passphrase: device_key.Passphrase = device_key.no_passphrase,
    ) -> None:
        self.runtime = runtime
        self.home = home
        self.options = options
        self.counters = Counters()
        self.changes = Changes()
        self.folders: dict[FolderId, Folder] = {}
        self.relays: dict[DeviceId, RelayClient] = {}
        self.invitations = Invitations(runtime, self.folders.values)
        self.codes = Codes(runtime, self.invitations.admits)
        self.backups = Backups(runtime, home.path, self._backups_changed)
        self.handouts = Handouts(self, self.invitations.admits)
        self.started_s = runtime.monotonic()
        self.stopping = asyncio.Event()
        self.discovery_problem = ""
        self.unopened: dict[FolderId, ResourceError] = {}  # folders that wait for their index, and why
        self.joining: dict[bytes, asyncio.Future[Link]] = {}  # by a ticket's discovery key
        self.seeking: dict[bytes, Callable[[Link], None]] = {}  # by a code's discovery key; is given each new link
        self._discoveries = discoveries
        self._machine = machine
        self._passphrase = passphrase
        self._faults = Faults(options.fault)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background: dict[asyncio.Task[None], None] = {}
        self._announced: tuple[bytes, ...] = ()
        self._room = Changes()  # noted when what a backup had no room for is to be offered again
        self._backed_up: tuple[frozenset[DeviceId], dict[DeviceId, tuple[str, ...]]] = (frozenset(), {})

    # --- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin everything. Raises ConfigError (secrets open to others, among others), KeysLocked, ResourceError,
        IndexCorrupt; then nothing is left running.

        A folder whose index the disk refuses now is opened later: `unopened` says why it waits.
        """
        runtime = self.runtime
        await runtime.in_thread(check_modes, self.home)
        self.keys = await runtime.in_thread(device_key.load_or_create, self.home, runtime, self._passphrase)
        self.sheets = await runtime.in_thread(
            Sheets, runtime, self.home, self.keys, self.options.name, self.options.person
        )
        policy = Policy(
            discovery_keys=lambda: (*self._discovery_keys(), *self._earlier_keys(), *self._backup_keys()),
            authorize=self._authorize,
        )
        self.endpoint = await self._machine.open_endpoint(
            runtime, self.keys, self.options.listen or "0.0.0.0:0", self.options.engine or "qh3", policy
        )
        self.links = LinkTable(runtime, self.keys.device, self._make_link, self._links_changed)
        self.dialer = Dialer(
            runtime,
            self.endpoint,
            self._keys_to_dial,
            self._linked,
            lambda device: self.links.get(device) is not None,
            self._dialed,
            self._recognise,
        )
        self.members = MembersWatch(runtime, self.keys.device, self.links, self._knows, self.keep_running)
        for text in self.options.relays:
            self.add_relay(parse_relay_address(text))
        for found in await runtime.in_thread(folder_home.existing, self.home.path):
            try:
                await self.open_folder(found)
            except ResourceError as error:
                self._wait_for(found, error)
        await self.backups.start(self.keys)
        for kept in self.backups.folders.values():
            self.dialer.add(kept.note.addresses, kept.discovery_key)
        self._tasks["accept"] = runtime.spawn(self._accept(), "accept links")
        self._tasks["refresh"] = runtime.spawn(self._refresh_loop(), "refresh")
        for discovery in self._discoveries:
            await discovery.start(self.dialer.report)

    async def stop(self) -> None:
        """End everything in order; what was acknowledged is durable already."""
        for discovery in self._discoveries:
            await discovery.close()
        await self.dialer.close()
        tasks = [*self._tasks.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.handouts.close()
        for folder in self.folders.values():
            await self.members.note_seen(folder)
        await self.links.close()
        for folder in self.folders.values():
            await folder.close()
        await self.backups.close()
        await self.endpoint.close()

    def keep_running(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task that ends by itself, or with the agent."""
        task = self.runtime.spawn(work, name)
        self._background[task] = None
        task.add_done_callback(lambda done: self._background.pop(done, None))
        return task

    def note_change(self) -> None:
        """Something that a user could see has changed."""
        self.changes.note()

    # --- folders ------------------------------------------------------------------------------------------

    async def open_folder(self, found: FolderHome) -> Folder:
        """Load a folder and begin to sync it.

        Raises what its index refuses; nothing of it runs then: a second one, opened later, writes the same chain.
        """
        folder = await self.runtime.in_thread(
            Folder, self.runtime, found, self.keys, self.counters, self._faults, self.note_change, self._machine
        )
        self.folders[folder.id] = folder
        try:
            await folder.start()
            self.dialer.add(folder.inviter_addresses, folder.keys().discovery_key(folder.keys().current))
            self._tasks[f"folder {folder.id.hex()}"] = self.runtime.spawn(self._follow(folder), "follow membership")
            self.handouts.opened(folder)
            self.refresh()
        except BaseException:
            await self.close_folder(folder)
            raise
        return folder

    async def open_made(self, made: FolderHome) -> Folder:
        """Open a folder that was just made. If its index refuses that, the ResourceError says so, and the folder is
        opened as soon as that is over.
        """
        try:
            return await self.open_folder(made)
        except ResourceError as error:
            self._wait_for(made, error)
            self.note_change()
            raise

    def _wait_for(self, found: FolderHome, error: ResourceError) -> None:
        self.unopened[found.folder] = error
        self.keep_running(self._open_later(found), "open folder")

    async def _open_later(self, found: FolderHome) -> None:
        """Open a folder whose index is refused by the disk as soon as that is over; the others go on meanwhile."""
        while found.folder in self.unopened:
            await self.runtime.sleep(RETRY_BLOCKED_S)
            try:
                await self.open_folder(found)
            except ResourceError as error:
                self.unopened[found.folder] = error
            else:
                del self.unopened[found.folder]
            self.note_change()

    async def close_folder(self, folder: Folder) -> None:
        """Stop syncing a folder."""
        self.handouts.closing(folder)
        del self.folders[folder.id]
        following = self._tasks.pop(f"folder {folder.id.hex()}", None)
        if following is not None:
            following.cancel()
        self.members.forget(folder)
        try:
            self.refresh()
        finally:  # whatever could not be announced, this one writes nothing more
            await folder.close()

    async def _follow(self, folder: Folder) -> None:
        """React to changes of who belongs to the folder and where it is stored; again if the index refuses that."""
        seen = -1
        count = 0
        while True:
            members = folder.replica.membership_count()
            if members != seen:
                try:
                    await self._react(folder)
                    seen = members
                except MeshsyncError as error:
                    log.warning("folder %s: a change of its members waits: %s", folder.name, error)
                    await self.runtime.sleep(RETRY_BLOCKED_S)
                    continue
            count = await folder.replica.changes.after(count)

    async def _react(self, folder: Folder) -> None:
        try:
            await self._own_relays(folder)
            await self.sheets.keep(folder)
        finally:  # whoever is gone is cut off in any case
            self.refresh()
            if folder.parted:
                self.dialer.remove(folder.inviter_addresses)
            await self.members.changed(folder)

    async def _own_relays(self, folder: Folder) -> None:
        """Store folders that this device owns at its configured relays; link the relays that the folder names."""
        membership = folder.replica.membership
        if self.keys.device in membership.owners():
            for device, client in list(self.relays.items()):
                if device not in membership.relays and client.address.secret is not None:
                    address = client.address.without_secret().text
                    await folder.replica.change_membership(SetRelay(device, (address,)))
        self._link_relays(folder.replica.membership.relays)

    # --- relays -------------------------------------------------------------------------------------------

    def add_relay(self, address: RelayAddress) -> None:
        """Keep a link to a relay. Raises ConfigError if the address does not name its key."""
        if address.device is None:
            raise ConfigError(
                "the relay's address lacks its key",
                next_step="Copy the whole line that 'meshsync-relay up' printed: quic://HOST:PORT#…",
            )
        client = RelayClient(self.runtime, lambda: self.endpoint, address, self._at_relay, self.note_change)
        self.relays[address.device] = client
        self._tasks[f"relay {address.device.hex()}"] = self.runtime.spawn(client.run(), f"relay {address.host}")

    def _at_relay(
        self, client: RelayClient, link: Link, wake: Changes
    ) -> dict[FolderId, Callable[[], Coroutine[Any, Any, None]]]:
        """Return what is to be done at a relay: for folders here, and for those that are kept for others."""
        name, secret = f"relay {client.address.address}", client.address.secret
        work: dict[FolderId, Callable[[], Coroutine[Any, Any, None]]] = {
            folder.id: FolderAtKeeper(self.runtime, link, folder, name, wake, secret).run
            for folder in self.folders.values()
            if link.peer in folder.replica.membership.relays and not folder.paused
        }
        for kept in self.backups.folders.values():
            if link.peer in kept.relays:
                work[kept.id] = PullFromRelay(self.runtime, link, kept, name).run
        return work

    def _link_relays(self, relays: Mapping[DeviceId, tuple[str, ...]]) -> None:
        for device, addresses in relays.items():
            if device not in self.relays and len(self.relays) < RELAYS_MAX:
                self.add_relay(parse_relay_address(addresses[0]))

    # --- links --------------------------------------------------------------------------------------------

    def _folder_keys(self) -> tuple[bytes, ...]:
        shared = [folder for folder in self.folders.values() if not folder.parted]
        shared.sort(key=lambda folder: folder.handout is not None)  # an announcement has room for few: folders first
        return tuple(folder.keys().discovery_key(folder.keys().current) for folder in shared)

    def _earlier_keys(self) -> tuple[bytes, ...]:
        """Return keys of epochs that ended: a member that was off then is recognised by them."""
        return tuple(key for folder in self.folders.values() if not folder.parted for key in folder.earlier_keys())

    def _backup_keys(self) -> tuple[bytes, ...]:
        """Return keys of the backups of folders here, which hold no key of the folder."""
        return tuple(key for folder in self.folders.values() if not folder.parted for key in folder.backup_keys())

    def _keys_to_dial(self) -> dict[bytes, bytes]:
        keys = (*self._folder_keys(), *self._earlier_keys(), *self._backup_keys(), *self.joining, *self.seeking)
        return {key: key for key in keys}

    def _discovery_keys(self) -> tuple[bytes, ...]:
        """Return what to be found by; what newcomers look for comes first, for it is open for minutes only."""
        of_folders = (*self._folder_keys(), *self.backups.discovery_keys())
        return (*self.codes.discovery_keys(), *self.invitations.discovery_keys(), *of_folders)

    def _knows(self, device: DeviceId) -> bool:
        return self.backups.knows(device) or any(folder.knows(device) for folder in self.folders.values())

    def _authorize(self, device: DeviceId) -> str | None:
        if self._knows(device):
            return None
        was_member = any(folder.farewell(device) is not None for folder in self.folders.values())
        if not was_member and not self.invitations.any_open():
            return "unknown"
        newcomers = sum(not self._knows(member.link.peer) for member in self.links.all())
        return None if newcomers < NEWCOMER_LINKS_MAX else "busy"

    def _recognise(self, key: bytes, device: DeviceId) -> bool:
        # Who told a code shows it with the words, who knows a ticket with the membership chain: not before.
        return key in self.seeking or key in self.joining or self._knows(device)

    def _make_link(self, link: Link) -> MemberLink:
        return MemberLink(
            self.runtime,
            link,
            folders=self.folders.values,
            pair=self._pair,
            code=self._code,
            keep=self._keep,
            kept=self.backups.serve,
        )

    async def _keep(self, link: Link, name: FolderId) -> None:
        """Bring a folder to the backup at the other end of `link`; only who belongs to it if it was removed, or is one
        more than can be brought anything.
        """
        folder = self.folders[name]
        at_backup = FolderAtKeeper(self.runtime, link, folder, f"backup {short(link.peer)}", self._room)
        if link.peer in folder.replica.keepers:
            await at_backup.run()
            return
        with contextlib.suppress(MeshsyncError):
            await at_backup.tell_members()

    def _backups_changed(self) -> None:
        """Members of a folder that is kept here, or its relays, may be others than before."""
        members = frozenset(
            device
            for folder in self.backups.folders.values()
            if folder.membership is not None and not folder.parted
            for device in folder.membership.members
        )
        relays = {name: texts for kept in self.backups.folders.values() for name, texts in kept.relays.items()}
        if (members, relays) == self._backed_up:
            self.note_change()
            return
        gone, self._backed_up = self._backed_up[0] - members, (members, relays)
        self._link_relays(relays)
        for kept in self.backups.folders.values():
            if kept.parted:
                self.dialer.remove(kept.note.addresses)
        for device in gone:
            link = self.links.get(device)
            if link is not None and not self._knows(device):
                link.close("no folder in common")
        self.refresh()

    async def begin_backup(
        self, reserved: Reserved, name: str, addresses: tuple[str, ...], chain: list[bytes]
    ) -> BackupFolder:
        """Keep a folder that this device was admitted to as a backup from now on. Raises as `Backups.keep`."""
        kept = await self.backups.keep(reserved, name, addresses, chain)
        self.dialer.add(addresses, kept.discovery_key)
        self.refresh()
        return kept

    def _linked(self, address: str) -> bool:
        return any(member.link.address == address for member in self.links.all())

    def _dialed(self, link: Link, key: bytes) -> None:
        if link.peer == self.keys.device:
            link.close("this is the same device")
            return
        self._add_link(link, dialed=True)
        waiter = self.joining.get(key)
        kept = self.links.get(link.peer)
        if waiter is not None and not waiter.done() and kept is not None:
            waiter.set_result(kept)

    def adopt(self, link: Link) -> None:
        """Take a link that was dialled for a purpose of its own."""
        self._add_link(link, dialed=True)

    def _add_link(self, link: Link, dialed: bool) -> None:
        if not self.links.add(link, dialed):
            return
        self.runtime.spawn(self._count_link(link), "count link")
        if not self._knows(link.peer):
            self.keep_running(self._end_newcomer(link), "newcomer")
        for seek in list(self.seeking.values()):
            seek(link)

    async def _end_newcomer(self, link: Link) -> None:
        """A device that is in no folder keeps its link for as long as joining one takes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NEWCOMER_LINK_S):
                await link.wait_closed()
        if not self._knows(link.peer):
            link.close("no folder in common")

    async def _count_link(self, link: Link) -> None:
        path = route(link.address)
        await link.wait_closed()
        self.counters.link_ended(path, link.bytes_received, link.bytes_sent)

    def _links_changed(self) -> None:
        self.dialer.refresh()  # only now: while the table holds a link, nobody is dialled in its place
        self.note_change()

    async def _accept(self) -> None:
        while True:
            try:
                link = await self.endpoint.accept()
            except LinkClosed:
                return
            self._add_link(link, dialed=False)

    async def _pair(self, conversation: Conversation, request: PairRequest, newcomer: DeviceId) -> None:
        folder = self.folders.get(FolderId(request.folder))
        paired = folder.replica if folder is not None and not folder.paused else None
        await serve_pairing(conversation, request, newcomer, self.keys.device, paired)
        self.refresh()

    async def _code(self, conversation: Conversation, ask: CodeAsk, link: Link) -> None:
        await self.serve_code(DirectTalk(link, conversation), ask)

    async def serve_code(self, talk: Talk, ask: CodeAsk) -> None:
        """Answer a newcomer that asks for a code told here. Raises PeerError, PeerTimeout, LinkClosed."""
        await serve_code(self.runtime, self.keys, self.codes, talk, ask, self.note_change)

    @property
    def machine(self) -> Machine:
        """What this agent takes from the machine that it runs on."""
        return self._machine

    @property
    def looks_around(self) -> bool:
        """Whether devices on the local network are looked for."""
        return bool(self._discoveries)

    # --- refresh ------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look again at what is shared with whom, and announce it."""
        self.links.refresh()
        for relay in self.relays.values():
            relay.refresh()
        self._room.note()
        self.dialer.refresh()
        self.note_change()

    async def _refresh_loop(self) -> None:
        """Announce the present keys; a discovery that fails is reported and goes on."""
        count = -1
        while True:
            keys = self._discovery_keys()
            if keys != self._announced:
                self._announced = keys
                for discovery in self._discoveries:
                    try:
                        await discovery.announce(self.endpoint.port, keys)
                    except MeshsyncError as error:
                        self.discovery_problem = error.what
                self.dialer.refresh()
            count = await self.changes.after(count)

    def names(self) -> Mapping[DeviceId, str]:
        """Return the display names of all devices known from membership chains, also of those that are gone."""
        names: dict[DeviceId, str] = {}
        for folder in self.folders.values():
            for device, sealed in folder.told.names.items():
                names[device] = open_label(folder.keys().secret, sealed)[0] or names.get(device, short(device))
        return names
