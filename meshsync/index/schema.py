"""Tables of one folder's index. `VERSION` changes with the tables: a newer one is refused, an older one upgraded.

The index is a local copy and can be rebuilt from the log and the folder, except `meta` (root path, own chain) and
records that no other device has yet.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 3

SAFEGUARDS: Final = """
-- what the safeguards weigh: files taken away lately, holds that wait for the user
CREATE TABLE lately (
    side TEXT NOT NULL,
    change TEXT NOT NULL,
    device BLOB NOT NULL,
    node BLOB NOT NULL,
    released INTEGER NOT NULL,
    PRIMARY KEY (side, change, device, node)
) WITHOUT ROWID;
CREATE TABLE hold (
    id TEXT PRIMARY KEY,
    side TEXT NOT NULL,
    change TEXT NOT NULL,
    device BLOB NOT NULL,
    why TEXT NOT NULL,
    since_ns INTEGER NOT NULL,
    count INTEGER NOT NULL,
    total INTEGER NOT NULL
) WITHOUT ROWID;
"""

STORED_PARTS: Final = """
-- by which stored record a relay has a manifest list and all below it
CREATE TABLE stored_part (relay BLOB NOT NULL, list BLOB NOT NULL, record BLOB NOT NULL, PRIMARY KEY (relay, list))
    WITHOUT ROWID;
"""

UPGRADES: Final = {1: SAFEGUARDS, 2: STORED_PARTS}
"""What brings an index of a version to the next one."""

TABLES: Final = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- the log: membership chain in order; entries in causal order of delivery; other records by id
CREATE TABLE membership (position INTEGER PRIMARY KEY, id BLOB NOT NULL, entry BLOB NOT NULL);
CREATE TABLE chain (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, device BLOB NOT NULL);
CREATE TABLE entry (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    chain INTEGER NOT NULL REFERENCES chain,
    seq INTEGER NOT NULL,
    time INTEGER NOT NULL,
    prev BLOB NOT NULL,
    envelope BLOB NOT NULL,
    signature BLOB NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX entry_by_seq ON entry (chain, seq);
CREATE TABLE stored (id BLOB PRIMARY KEY, data BLOB NOT NULL, receipt BLOB) WITHOUT ROWID;

-- what each relay has: read up to `cursor`; `seen` are ids of our records in its log
CREATE TABLE relay (device BLOB PRIMARY KEY, cursor INTEGER NOT NULL, head BLOB NOT NULL, signed BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE relay_seen (relay BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (relay, id)) WITHOUT ROWID;

-- the tree last agreed between disk and view, by node; and applies that were begun
CREATE TABLE synced (node BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE intent (node BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE partial (node BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;

-- every version known, for history and durability
CREATE TABLE version (
    dot BLOB PRIMARY KEY,
    node BLOB NOT NULL,
    position INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    change TEXT NOT NULL,
    path BLOB NOT NULL,
    content BLOB NOT NULL,
    mtime_ns INTEGER NOT NULL,
    durable INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX version_by_node ON version (node, position);
CREATE INDEX version_not_durable ON version (durable) WHERE durable = 0;

-- where chunks are: in the user's own files, as manifest lists, as blobs
CREATE TABLE file (number INTEGER PRIMARY KEY, node BLOB NOT NULL UNIQUE);
CREATE TABLE chunk (id BLOB NOT NULL, file INTEGER NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE INDEX chunk_by_id ON chunk (id);
CREATE INDEX chunk_by_file ON chunk (file, offset);
CREATE TABLE list (id BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blob (chunk BLOB PRIMARY KEY, blob BLOB NOT NULL, epoch BLOB NOT NULL, size INTEGER NOT NULL)
    WITHOUT ROWID;
"""
    + SAFEGUARDS
    + STORED_PARTS
)
