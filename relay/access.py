"""What a device may ask of a folder. Pure: membership and proofs in, a right out.

Invariant: a device that is in no folder learns nothing about any: "no such folder" and "not a member" are one answer.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Iterable

from meshsync.crypto.signing import SIGNATURE_SIZE_BYTES, verify
from meshsync.errors import SignatureInvalid
from meshsync.ids import DeviceId, FolderId
from meshsync.metalog.membership import Membership
from meshsync.wire.relay_messages import TICKET_PROOF_KIND, Attach, creation_proof, ticket_statement


class Right(enum.IntEnum):
    """How much a device may do. Each right includes those before it."""

    NONE = 0  # nothing, not even learn that the folder exists
    JOIN = 1  # read the membership chain and append its own admission
    READ = 2  # read the log and fetch blobs
    UPLOAD = 3  # offer blobs and append records; each record's author is judged by itself


def right_of(membership: Membership, device: DeviceId) -> Right:
    """Return what `device`, as its link proves, may do as a member."""
    if membership.may_read(device):
        return Right.UPLOAD
    return Right.READ if membership.is_member(device) else Right.NONE


def proves_ticket(membership: Membership, attach: Attach, relay: DeviceId, device: DeviceId, now_s: int) -> bool:
    """Whether `attach` proves to `relay` that `device` bears a ticket that is open at `now_s` (seconds since 1970)."""
    invite = membership.invites.get(attach.ticket)
    if invite is None or invite.expires_s < now_s or len(attach.signature) != SIGNATURE_SIZE_BYTES:
        return False
    statement = ticket_statement(FolderId(attach.folder), relay, device)
    try:
        verify(DeviceId(attach.ticket), TICKET_PROOF_KIND, statement, attach.signature)
    except SignatureInvalid:
        return False
    return True


def proves_invitation(
    secrets: Iterable[bytes], proof: bytes, relay: DeviceId, device: DeviceId, folder: FolderId
) -> bool:
    """Whether `proof` shows that `device` knows one of the relay's invitation `secrets`."""
    found = False
    for secret in secrets:  # all of them, so that time tells nothing
        found |= hmac.compare_digest(creation_proof(secret, relay, device, folder), proof)
    return found
