"""Takes and gives blobs. Invariant: nothing unasked is read, nothing undurable acknowledged, nothing damaged sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from meshsync.crypto.hashing import blob_id
from meshsync.errors import BlobCorrupt, MalformedMessage, NotFound, PeerOverran, PeerTimeout
from meshsync.ids import BlobId, DeviceId, FolderId
from meshsync.limits import RELAY_LEASE_S, RELAY_UPLOAD_TIMEOUT_S, WANT_BYTES_MAX
from meshsync.wire.relay_messages import (
    Absence,
    BlobAbsent,
    BlobFrame,
    BlobUpload,
    Code,
    Fetch,
    Message,
    Offer,
    Refused,
    StoredBlobs,
    Wanted,
    refused,
)
from relay.append import held_blobs
from relay.core import RelayCore
from relay.drivers.base import OverQuota
from relay.messages import MessageStream


async def take_offer(
    core: RelayCore, folder: FolderId, device: DeviceId, offer: Offer, stream: MessageStream
) -> StoredBlobs | Refused:
    """Pull what is wanted of `offer` and store it durably; return the answer that ends the exchange.

    Raises PeerOverran or MalformedMessage if the device sends other blobs than it was asked for, or promised more than
    one offer may hold, and what storage raises.
    """
    total = sum(item.size for item in offer.items)
    if total > WANT_BYTES_MAX:
        raise PeerOverran(f"an offer of {total} bytes exceeds the bound of {WANT_BYTES_MAX} bytes")
    async with core.gate.upload():
        positions = await _wanted(core, folder, offer)
        size = sum(offer.items[position].size for position in positions)
        state = await core.log.state(folder)
        if state is not None and size > state.bytes_max - state.bytes_used:
            return _full(max(0, state.bytes_max - state.bytes_used))
    async with core.uploads.take(size):
        good, corrupt = await _pull(offer, positions, stream)
        async with core.gate.upload():
            await core.chunks.put(good)
            sizes = {blob: len(data) for blob, data in good}
            answer = await core.log.add_blobs(folder, device, sizes, core.now_s() + RELAY_LEASE_S)
    core.losses.stored(folder, sizes)
    if isinstance(answer, OverQuota):
        return _full(answer.bytes_free)
    return StoredBlobs(len(good), tuple(corrupt))


async def give(core: RelayCore, folder: FolderId, fetch: Fetch, stream: MessageStream) -> None:
    """Send the blobs of `fetch` that belong to `folder`, in order, and say why not for the others."""
    blobs = [BlobId(blob) for blob in fetch.blobs]
    noted = await core.log.blobs(folder, blobs)
    sent = 0
    for position, blob in enumerate(blobs):
        size = noted.get(blob)
        if size is None:
            await stream.send(BlobAbsent(position, Absence.ABSENT))
        elif sent + size > WANT_BYTES_MAX:
            await stream.send(BlobAbsent(position, Absence.LATER))
        else:
            sent += size
            async with core.fetches.take(size):
                await stream.send(await _read(core, position, blob))


async def _read(core: RelayCore, position: int, blob: BlobId) -> Message:
    try:
        data = await core.chunks.get(blob)
    except BlobCorrupt:
        return BlobAbsent(position, Absence.DAMAGED)
    except NotFound:
        return BlobAbsent(position, Absence.ABSENT)
    return BlobFrame(position, data)


async def _wanted(core: RelayCore, folder: FolderId, offer: Offer) -> list[int]:
    """Return the positions of offered blobs that are not here, each blob once; lease the others."""
    offered = [BlobId(item.blob) for item in offer.items]
    held = await held_blobs(core, folder, sorted(set(offered)))
    if held:
        await core.log.lease(folder, held, core.now_s() + RELAY_LEASE_S)
    wanted: dict[BlobId, int] = {}
    for position, blob in enumerate(offered):
        if blob not in held:
            wanted.setdefault(blob, position)
    return list(wanted.values())


async def _pull(
    offer: Offer, positions: Sequence[int], stream: MessageStream
) -> tuple[list[tuple[BlobId, bytes]], list[int]]:
    """Ask, and return the answer as `_receive` does; a device that trickles does not hold memory for ever."""
    try:
        async with asyncio.timeout(RELAY_UPLOAD_TIMEOUT_S):
            await stream.send(Wanted(tuple(positions)))
            return await _receive(offer, positions, stream)
    except TimeoutError as error:
        raise PeerTimeout("the device took too long to send what it offered") from error


async def _receive(
    offer: Offer, positions: Sequence[int], stream: MessageStream
) -> tuple[list[tuple[BlobId, bytes]], list[int]]:
    """Return the blobs that hash to their ids, and the positions of those that do not."""
    good: list[tuple[BlobId, bytes]] = []
    corrupt: list[int] = []
    for position in positions:
        message = await stream.receive()
        if not isinstance(message, BlobUpload) or message.position != position:
            raise MalformedMessage("another message than the next wanted blob")
        item = offer.items[position]
        if len(message.data) > item.size:
            raise PeerOverran(f"a blob of {len(message.data)} bytes was offered with {item.size}")
        if blob_id(message.data) == item.blob:
            good.append((BlobId(item.blob), message.data))
        else:
            corrupt.append(position)
    return good, corrupt


def _full(bytes_free: int) -> Refused:
    return refused(Code.STORAGE_FULL, f"{bytes_free} bytes are left of the folder's quota")
