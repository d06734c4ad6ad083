"""Becoming a member with a ticket, over a link to any member that knows the invitation.

Invariant: nobody is admitted but by an entry that the ticket's key and the newcomer's key both signed, on the newest
membership entry; the same ticket admits once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from meshsync.agent.conversation import Conversation
from meshsync.agent.key_ring import keys_from_boxes, seal_name
from meshsync.content.ticket import Ticket
from meshsync.crypto.identity import DeviceKeys
from meshsync.crypto.signing import verify
from meshsync.errors import MeshsyncError, PeerOverran, SignatureInvalid, TicketInvalid
from meshsync.ids import DeviceId, FolderId, short
from meshsync.limits import JOIN_CHAIN_BYTES_MAX, PAIR_TRIES_MAX, RECORDS_PAGE_BYTES_MAX
from meshsync.metalog.membership import Membership, extended, replay
from meshsync.metalog.membership_entry import Admit, OpenedMembership, open_membership, sign_change
from meshsync.metalog.membership_history import tell
from meshsync.roles import Role
from meshsync.transport.base import Link, Priority
from meshsync.wire.peer_messages import (
    MembershipPage,
    PairAccepted,
    PairAdmit,
    PairRefused,
    PairRequest,
)

PAIR_KIND = "pair"


class PairedFolder(Protocol):
    """What pairing needs of a folder."""

    @property
    def membership(self) -> Membership:
        """Who belongs to the folder now."""

    def has_open_ticket(self, ticket: DeviceId) -> bool:
        """Whether an invitation with this ticket key is open here."""

    def membership_page(self, start: int, bytes_max: int) -> list[bytes]:
        """Return membership entries from `start` on."""

    def membership_count(self) -> int:
        """Return how many there are."""

    async def admit(self, entry: bytes) -> None:
        """Append the newcomer's entry. Raises AccessError, MalformedMessage, SignatureInvalid."""


def pair_message(folder: FolderId, newcomer: DeviceId, server: DeviceId) -> bytes:
    """Return what the ticket's key signs: it serves one newcomer at one device, whose keys the link has proven."""
    return folder + newcomer + server


def was_admitted(membership: Membership, ticket: DeviceId, device: DeviceId) -> bool:
    """Whether `device` is a member by the ticket with this public key."""
    member = membership.members.get(device)
    return member is not None and member.ticket == ticket


class ReceivedChain:
    """A membership chain as it arrives from somebody who is not trusted: each page is verified before the next."""

    def __init__(self, folder: FolderId) -> None:
        self.entries: list[bytes] = []
        self.membership: Membership | None = None  # after the entries so far
        self._folder = folder
        self._size = 0

    def add(self, page: Sequence[bytes]) -> None:
        """Take the next entries. Raises PeerOverran if the chain is too long, else what verification raises."""
        self._size += sum(map(len, page))
        if self._size > JOIN_CHAIN_BYTES_MAX:
            raise PeerOverran(
                f"a membership chain of more than {JOIN_CHAIN_BYTES_MAX} bytes", folder=short(self._folder)
            )
        opened = [open_membership(data) for data in page]
        if self.membership is None:
            self.membership = replay(opened, self._folder)
        else:
            self.membership = extended(self.membership, opened)
        self.entries.extend(page)


async def serve_pairing(
    conversation: Conversation, request: PairRequest, newcomer: DeviceId, own: DeviceId, folder: PairedFolder | None
) -> None:
    """Answer one pairing stream. Raises PeerError, LinkClosed; a refusal is told to the newcomer.

    One that was admitted and did not hear of it, because its link broke, is shown the chain again.
    """
    ticket = DeviceId(request.ticket)
    try:
        verify(ticket, PAIR_KIND, pair_message(FolderId(request.folder), newcomer, own), request.signature)
    except SignatureInvalid:
        folder = None
    if folder is None or not (folder.has_open_ticket(ticket) or was_admitted(folder.membership, ticket, newcomer)):
        await conversation.send(PairRefused("the ticket is unknown, used, expired or revoked"))
        return
    start = 0
    while page := folder.membership_page(start, RECORDS_PAGE_BYTES_MAX):
        await conversation.send(MembershipPage(start, tuple(page)))
        start += len(page)
    await conversation.send(MembershipPage(start, ()))
    admit = await conversation.expect(PairAdmit)
    try:
        await folder.admit(admit.entry)
    except MeshsyncError as error:
        await conversation.send(PairRefused(error.what[:200]))
        return
    await conversation.send(PairAccepted(folder.membership_count()))


async def pair_over_link(link: Link, ticket: Ticket, keys: DeviceKeys, device_name: str, now_s: int) -> list[bytes]:
    """Become a member through the device at the other end; return the whole membership chain with the own admission.

    Raises TicketInvalid if the device refuses, PeerError, LinkClosed.
    """
    refused = ""
    for _ in range(PAIR_TRIES_MAX):
        conversation = Conversation(await link.open_stream(Priority.INTERACTIVE))
        try:
            signature = ticket.keys.sign(PAIR_KIND, pair_message(ticket.folder, keys.device, link.peer))
            await conversation.send(PairRequest(ticket.folder, ticket.keys.device, signature))
            chain = await _read_chain(conversation, ticket, link.peer)
            entries = chain.entries
            if chain.membership is not None and was_admitted(chain.membership, ticket.keys.device, keys.device):
                return entries  # by an admission whose answer was lost
            admission = make_admission(entries, ticket, keys, device_name, now_s)
            await conversation.send(PairAdmit(admission))
            message = await conversation.receive()
            if isinstance(message, PairAccepted):
                return [*entries, admission]
            # Somebody else's entry came between: the chain is read again.
            refused = message.reason if isinstance(message, PairRefused) else "no answer"
        finally:
            conversation.reset()
    raise TicketInvalid(f"the inviting device refused: {refused}", next_step="Ask for a new ticket: meshsync share")


def make_admission(entries: list[bytes], ticket: Ticket, keys: DeviceKeys, device_name: str, now_s: int) -> bytes:
    """Return the entry by which this device admits itself on top of `entries`. Raises TicketInvalid and the like."""
    opened = [open_membership(data) for data in entries]
    membership = replay(opened, ticket.folder)
    invite = membership.open_invite(ticket.keys.device, now_s)
    _check_new_as_backup(membership, opened, invite.role, keys.device)
    sealed_name = b""
    if invite.role.may_read:
        held = keys_from_boxes(membership, ticket.keys.device, ticket.keys.box_secret)
        sealed_name = seal_name(held.secret, device_name)
    change = Admit(ticket.keys.device, invite.role, keys.box_public, sealed_name)
    entry = sign_change(keys, ticket.folder, membership.head, membership.seq + 1, change, ticket=ticket.keys)
    membership.apply(open_membership(entry.data))
    return entry.data


def _check_new_as_backup(
    membership: Membership, chain: Sequence[OpenedMembership], role: Role, device: DeviceId
) -> None:
    """Raise TicketInvalid if `device` was a backup of the folder before: members hold what its key signed of that log,
    and would take a new one under the same key for one that was set back.
    """
    gone = tell(chain).departures.get(device)
    before = membership.role(device) or (None if gone is None else gone.role)
    if role is Role.BACKUP and before is Role.BACKUP:
        raise TicketInvalid(
            "this device was a backup of the folder before, and its log of it is gone",
            device=short(device),
            folder=short(membership.folder),
            next_step="Join under another key, from a home of its own: add --home DIR to the command",
        )


async def _read_chain(conversation: Conversation, ticket: Ticket, member: DeviceId) -> ReceivedChain:
    """Return the membership chain, each page verified before the next is taken. Whoever sends it must be in it.

    Raises TicketInvalid if the device refuses or is no member, what verification raises, PeerOverran.
    """
    chain = ReceivedChain(ticket.folder)
    while page := await _page(conversation):
        chain.add(page)
    if chain.membership is None or not chain.membership.is_member(member):
        raise TicketInvalid("the device that answers is no member of the folder", device=short(member))
    return chain


async def _page(conversation: Conversation) -> tuple[bytes, ...]:
    message = await conversation.receive()
    if isinstance(message, PairRefused):
        raise TicketInvalid(message.reason, next_step="Ask for a new ticket: meshsync share")
    return message.entries if isinstance(message, MembershipPage) else ()
