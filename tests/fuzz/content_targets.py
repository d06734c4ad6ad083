"""What members seal: manifests, batches and what they do to the view, payloads, deltas, keys; and packs on a disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec

from meshsync.chunking import delta, pieces
from meshsync.content import payload
from meshsync.content.batch import Batch, decode_batch, encode_batch
from meshsync.content.manifest import Item, Node, expand, parse_list, write_list
from meshsync.content.record import Attr, Content, Drop, Dropped, Keep, Kind, Mark, Place, Put
from meshsync.content.seal import BlobKind, seal_chunk, unseal_chunk
from meshsync.content.stored_list import StoredItem, open_stored_list, seal_stored_list
from meshsync.crypto.envelope import box, unbox
from meshsync.crypto.folder_keys import FolderKeys, commitment, open_bundle, pack_bundle, secret_commitment
from meshsync.crypto.hashing import blob_id
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import AccessError, IntegrityError, MalformedMessage, ManifestMismatch
from meshsync.ids import ROOT, BlobId, ChainId, ChunkId, DeviceId, FolderId, NodeId, dot
from meshsync.limits import CHUNK_SIZE_BYTES_MAX
from meshsync.store.pack_format import (
    PACK_HEADER_BYTES,
    Placed,
    RecordKind,
    pack_header,
    parse_trailer,
    record_header,
    scan,
    trailer,
)
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.reconcile import reconcile
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View
from tests.fuzz.loose import items, loose, packed
from tests.fuzz.target import Target
from tests.model.compare import check_lookups

FOLDER, KEY, SECRET = FolderId(b"F" * 32), b"e" * 32, b"s" * 32
EPOCH = commitment(KEY)
KEYS = FolderKeys(FOLDER, SECRET, {EPOCH: KEY}, EPOCH)
DEVICE = DeviceKeys(b"d" * 64)
CHAINS = tuple(ChainId(bytes([number]) * 32) for number in (0x81, 0x82, 0x83))
BLOBS = tuple(BlobId(bytes([number]) * 32) for number in (1, 2, 3))
BASE = bytes(range(256)) * 40
BATCHES_MAX = 40  # of one input: more inputs tell more than longer ones
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "content.json").read_text())


# --- lists of chunks


def _manifest(data: bytes) -> object:
    level = 1 + (data[0] % 6 if data else 0)
    items = parse_list(data[1:], level)
    assert write_list(level, items) == data[1:]
    size = sum(item.size for item in items)
    below = expand(Node(level, ChunkId(b"i" * 32), 0, size), data[1:])
    assert sum(node.size for node in below) == size and all(node.level == level - 1 for node in below)
    return items


def _manifests() -> Iterator[bytes]:
    for level in (1, 2, 6):
        items = [Item(ChunkId(bytes([number]) * 32), 20_000 + number) for number in range(3)]
        yield bytes([level - 1]) + write_list(level, items)


def _stored_list(data: bytes) -> object:
    return open_stored_list(KEYS, BLOBS, EPOCH + seal_chunk(KEYS, EPOCH, BlobKind.STORED, data))


def _stored_lists() -> Iterator[bytes]:
    items = [StoredItem(ChunkId(b"c" * 32), BLOBS[0], EPOCH), StoredItem(ChunkId(b"d" * 32), BLOBS[1], EPOCH, BLOBS[2])]
    sealed = seal_stored_list(KEYS, BLOBS, items)
    yield unseal_chunk(KEYS, EPOCH, BlobKind.STORED, sealed[32:], 1 << 20)


# --- operations


def _batch(data: bytes) -> object:
    batch = decode_batch(data, CHAINS[0], 9)
    assert encode_batch(batch.ops, CHAINS[0], batch.time_ns) == data
    return batch


def _view(data: bytes) -> object:
    """Members deliver any operations in bounds: the view takes them, and a plan can be made of it."""
    value = loose(data)
    if not isinstance(value, list) or len(value) > BATCHES_MAX:
        raise MalformedMessage("no list of batches")
    written = [(author % len(CHAINS), packed(batch)) for author, batch in (items(item, int, list) for item in value)]
    view = View()
    for time, (author, batch) in enumerate(written, start=1):
        chain = CHAINS[author]
        seq = view.vector.get(chain, 0) + 1
        try:
            ops = decode_batch(batch, chain, seq).ops
        except MalformedMessage:
            ops = []
        entry = DeliveredEntry(DeviceId(chain), chain, seq, time, tuple(ops))
        if not view.missing(entry):
            view.apply(entry)
    check_lookups(view)
    return reconcile(SyncedTree(), LocalTree(), view)


def _views() -> Iterator[bytes]:
    file = Content(Kind.FILE, 5, ChunkId(b"c" * 32))
    first, second = dot(CHAINS[0], 1, 0), dot(CHAINS[0], 1, 1)
    made = [
        (0, [Put(None, Content(Kind.DIRECTORY), False, 0, (), ROOT, b"d", (b"d",)),
             Put(None, file, False, 7, (), ROOT, b"f", (b"f",))]),
        (1, [Put(NodeId(second), file, True, 8, (second,), NodeId(first), b"g", (b"d", b"g"))]),
        (2, [Place(NodeId(second), NodeId(first), b"h", (second,), (b"d", b"h"),
                   (Keep(NodeId(second), second, first, ROOT, b"f (copy)"),)),
             Attr(NodeId(second), True), Mark(b"before", True)]),
        (1, [Drop((Dropped(NodeId(first), (), first, -1), Dropped(NodeId(second), (second,), None, 0)))]),
        (0, [Place(NodeId(first), NodeId(first), b"x", (), (b"x",))]),
    ]  # fmt: skip
    seqs = [0, 0, 0]
    values = []
    for author, ops in made:
        seqs[author] += 1
        values.append([author, msgspec.msgpack.decode(encode_batch(ops, CHAINS[author]))])  # type: ignore[arg-type]
    yield msgspec.msgpack.encode(values)
    yield msgspec.msgpack.encode(values[:2])


def _batches() -> Iterator[bytes]:
    yield bytes.fromhex(VECTORS["batch"])
    for data in _views():
        for _, batch in msgspec.msgpack.decode(data):
            yield msgspec.msgpack.encode(batch)
    assert isinstance(decode_batch(encode_batch([], CHAINS[0]), CHAINS[0], 1), Batch)


# --- seals, keys, deltas


def _payload(data: bytes) -> object:
    plain = payload.unpack(data, CHUNK_SIZE_BYTES_MAX)
    assert len(plain) <= CHUNK_SIZE_BYTES_MAX
    return plain


def _blob(data: bytes) -> object:
    return unseal_chunk(KEYS, EPOCH, BlobKind.CHUNK, data, CHUNK_SIZE_BYTES_MAX)


def _delta(data: bytes) -> object:
    made = delta.apply(BASE, data, CHUNK_SIZE_BYTES_MAX)
    assert len(made) <= CHUNK_SIZE_BYTES_MAX
    return made


def _piece_delta(data: bytes) -> object:
    made = pieces.rebuild(BASE, data, CHUNK_SIZE_BYTES_MAX)
    assert len(made) <= CHUNK_SIZE_BYTES_MAX
    return made


def _piece_hashes(data: bytes) -> object:
    """What an asker says that it holds becomes a delta; wrong hashes only make a longer one."""
    return pieces.difference(KEYS.piece_key, data, BASE)


def _box(data: bytes) -> object:
    return open_bundle(FOLDER, EPOCH, secret_commitment(SECRET), unbox(DEVICE.box_secret, data))


def _bundle(data: bytes) -> object:
    return open_bundle(FOLDER, EPOCH, secret_commitment(SECRET), data)


# --- packs


def _pack(data: bytes) -> object:
    found = scan(data, min(PACK_HEADER_BYTES, len(data)))
    assert all(record.end <= len(data) for record in found.good)
    listed = parse_trailer(data)
    assert listed is None or all(isinstance(record, Placed) for record in listed)
    return found


def _packs() -> Iterator[bytes]:
    data, placed = bytearray(pack_header(1)), []
    for body in (b"one", b"two" * 100):
        name = blob_id(body)
        data += record_header(RecordKind.BLOB, name, len(body))
        placed.append(Placed(RecordKind.BLOB, name, len(data), len(body)))
        data += body
    yield bytes(data)
    yield bytes(data) + trailer(placed, len(data))


TARGETS = (
    Target("manifest", _manifest, (ManifestMismatch,), tuple(_manifests())),
    Target("stored-list", _stored_list, (MalformedMessage, IntegrityError, AccessError), tuple(_stored_lists())),
    Target("batch", _batch, (MalformedMessage,), tuple(_batches())),
    Target("view", _view, (MalformedMessage,), tuple(_views())),
    Target("payload", _payload, (IntegrityError,), (payload.pack(b"text " * 50), payload.pack(b"x"))),
    Target("blob", _blob, (IntegrityError,), (seal_chunk(KEYS, EPOCH, BlobKind.CHUNK, b"text " * 50),)),
    Target("delta", _delta, (IntegrityError,), (delta.make(BASE, BASE + b"more"), delta.make(b"", BASE))),
    Target("piece-delta", _piece_delta, (MalformedMessage,),
           (pieces.difference(KEYS.piece_key, pieces.piece_hashes(KEYS.piece_key, BASE), BASE + b"more"),)),
    Target("piece-hashes", _piece_hashes, (MalformedMessage,), (pieces.piece_hashes(KEYS.piece_key, BASE),)),
    Target("key-box", _box, (MalformedMessage, IntegrityError),
           (box(DEVICE.box_public, b"r" * 32, pack_bundle(KEYS)),)),
    Target("key-bundle", _bundle, (MalformedMessage, IntegrityError), (pack_bundle(KEYS),)),
    Target("pack-file", _pack, (), tuple(_packs())),
)  # fmt: skip
