"""Every bound and default of the product: name, value, unit, reason. One section per floor.

Invariant: nothing that a peer, a file or a user controls grows without a bound that stands here.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# --- versions ------------------------------------------------------------------------------------------------
WIRE_VERSION: Final = 1
SUITE: Final = 1  # XChaCha20-Poly1305 + BLAKE3 + Ed25519; fixed by genesis, never negotiated

# --- chunking, content ---------------------------------------------------------------------------------------
CHUNK_SIZE_BYTES_MIN: Final = 16 * KIB  # below this the per-chunk cost (id, catalog row, seal) dominates
CHUNK_SIZE_BYTES_MEAN: Final = 64 * KIB  # small-edit cost against per-chunk cost; measured, fixed in genesis
CHUNK_SIZE_BYTES_MAX: Final = 256 * KIB  # bounds memory per chunk in flight
MANIFEST_LIST_ITEMS_MIN: Final = 32
MANIFEST_LIST_ITEMS_MEAN: Final = 128  # 128 x 64 KiB: one changed byte in 8 MiB re-sends one list of ~4.5 KiB
MANIFEST_LIST_ITEMS_MAX: Final = 512
MANIFEST_DEPTH_MAX: Final = 6  # 128^6 chunks is beyond any file system's largest file
PIECE_SIZE_BYTES_MIN: Final = 256  # pieces: deltas inside a chunk; below this the hash (8 bytes) costs too much
PIECE_SIZE_BYTES_MEAN: Final = 1 * KIB  # a small edit costs about one piece; a chunk of 64 KiB has about 64 hashes
PIECE_SIZE_BYTES_MAX: Final = 4 * KIB
FILE_SIZE_BYTES_MAX: Final = 1 << 50  # 1 PiB: the mission's whole capacity in one file
BLOB_SIZE_BYTES_MAX: Final = 320 * KIB  # largest chunk + padding (at most 12 %) + header and tag
ZSTD_LEVEL: Final = 3  # level 1 makes deltas 500 times larger

# --- log -----------------------------------------------------------------------------------------------------
ENTRY_OPS_MAX: Final = 1000  # operations per signature: verification runs at about 20 k/s
ENTRY_PAYLOAD_BYTES_MAX: Final = 4 * MIB  # 1,000 operations with the longest usual paths, sealed
ENTRY_ENVELOPE_BYTES_MAX: Final = 256 * KIB  # `seen` names at most SEEN_MAX heads
SEEN_MAX: Final = 2000
NAME_BYTES_MAX: Final = 255  # what POSIX file systems hold
PATH_DEPTH_MAX: Final = 512
PATH_BYTES_MAX: Final = 64 * KIB
LINK_TARGET_BYTES_MAX: Final = 4096  # PATH_MAX
MEMBERS_MAX: Final = 10_000
STORED_BLOBS_MAX: Final = 20_000  # blobs in one stored record: 20,000 x ~120 bytes = 2.4 MiB
MEMBERSHIP_ENTRY_BYTES_MAX: Final = 4 * MIB  # a rekey carries one ~150-byte box for each of MEMBERS_MAX members

# --- wire ----------------------------------------------------------------------------------------------------
FRAME_BYTES_MAX: Final = 5 * MIB  # one entry at its largest, with envelope and framing
FRAME_BYTES_MAX_UNAUTHENTICATED: Final = 4 * KIB  # hello and proof frames
WANT_ITEMS_MAX: Final = 1024  # chunks in one request
WANT_BYTES_MAX: Final = 8 * MIB  # bytes asked for in one request and not yet received
HAVE_ITEMS_MAX: Final = 4096  # blob ids in one "have?" question
HEADS_MAX: Final = 10_000  # chain heads in one message; further ones follow in a next page
RECORDS_PAGE_BYTES_MAX: Final = 4 * MIB  # records in one answer
RECORDS_PAGE_ITEMS_MAX: Final = 4096
REFUSAL_TEXT_CHARS_MAX: Final = 200  # one sentence for the user
PIECE_HASHES_BYTES_MAX: Final = 8 * KIB  # 8 bytes for each piece of a chunk at its largest
