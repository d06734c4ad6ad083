"""What does sealing and opening a chunk of 64 KiB cost, and a batch of 1,000 operations? Prints medians.

Run: python tests/benchmarks/bench_seal.py
"""

from __future__ import annotations

import platform
import random
import statistics
import time
from collections.abc import Callable

from meshsync.chunking import delta
from meshsync.chunking.cut import CutParams, cut
from meshsync.content.batch import decode_batch, encode_batch
from meshsync.content.chunk_ids import check_chunk, chunk_id
from meshsync.content.record import Content, Kind, Put
from meshsync.content.seal import BlobKind, seal_chunk, unseal_chunk
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.crypto.hashing import blob_id
from meshsync.ids import ChainId, ChunkId, FolderId, NodeId, dot

RANDOM = random.Random(1)
FOLDER, CHAIN = FolderId(b"F" * 32), ChainId(b"C" * 32)
EPOCH_KEY = bytes(32)
EPOCH = commitment(EPOCH_KEY)
KEYS = FolderKeys(FOLDER, b"S" * 32, {EPOCH: EPOCH_KEY}, EPOCH)
SIZE = 64 * 1024


def measure(name: str, action: Callable[[], object], runs: int) -> None:
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        action()
        times.append((time.perf_counter() - begin) * 1e6)
    low, high = statistics.quantiles(times, n=10)[0], statistics.quantiles(times, n=10)[-1]
    print(f"{name:42} {statistics.median(times):10.1f} us   (10 % {low:.1f}, 90 % {high:.1f})")


def put(number: int) -> Put:
    content = Content(Kind.FILE, 60_000, ChunkId(RANDOM.randbytes(32)))
    parent = NodeId(dot(ChainId(b"P" * 32), 1 + number // 50, 7))
    replaced = (dot(CHAIN, 1 + number, number % 1000),)
    name = b"report-%05d.txt" % number
    return Put(NodeId(replaced[0]), content, False, 10**18 + number, replaced, parent, name, (b"docs", b"2024", name))


def main() -> None:
    print(f"{platform.machine()}, Python {platform.python_version()}")
    noise = RANDOM.randbytes(SIZE)
    text = b"".join(b"line %d of a log that repeats itself\n" % at for at in range(2000))[:SIZE]
    edited = noise[:30_000] + b"edited" + noise[30_006:]
    for label, plain in (("random", noise), ("text", text)):
        blob = seal_chunk(KEYS, EPOCH, BlobKind.CHUNK, plain)
        id = chunk_id(KEYS, BlobKind.CHUNK, plain)

        def seal(plain: bytes = plain) -> None:
            chunk_id(KEYS, BlobKind.CHUNK, plain)
            seal_chunk(KEYS, EPOCH, BlobKind.CHUNK, plain)

        def unseal(blob: bytes = blob, id: ChunkId = id) -> None:
            check_chunk(KEYS, BlobKind.CHUNK, id, unseal_chunk(KEYS, EPOCH, BlobKind.CHUNK, blob, SIZE))

        measure(f"chunk id + seal, 64 KiB {label}", seal, 1000)
        measure(f"unseal + check, 64 KiB {label}", unseal, 1000)
    measure("blob id, 64 KiB", lambda: blob_id(noise), 1000)
    difference = delta.make(noise, edited)
    measure(f"delta of 6 bytes in 64 KiB ({len(difference)} B): make", lambda: delta.make(noise, edited), 300)
    measure("the same: apply", lambda: delta.apply(noise, difference, SIZE), 300)
    large = RANDOM.randbytes(16 << 20)
    measure("cut 16 MiB", lambda: cut(large, KEYS.cut_seed, CutParams(16384, 65536, 262144)), 10)
    ops = [put(number) for number in range(1000)]
    batch = encode_batch(ops, CHAIN)
    measure(f"encode 1,000 puts ({len(batch)} B)", lambda: encode_batch(ops, CHAIN), 30)
    measure("decode 1,000 puts", lambda: decode_batch(batch, CHAIN, 2000), 30)
    sealed = seal_chunk(KEYS, EPOCH, BlobKind.BATCH, batch)
    print(f"{'1,000 puts sealed':42} {len(sealed)} bytes")


if __name__ == "__main__":
    main()
