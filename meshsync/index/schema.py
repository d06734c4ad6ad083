"""Tables of one folder's index. `VERSION` changes with the tables: a newer one is refused, an older one upgraded.

The index is a local copy and can be rebuilt from the log and the folder, except `meta` (root path, own chain) and
records that no other device has yet.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 8

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

PER_RELAY: Final = """
-- relays for which is kept which versions they lack; one that is not here was never asked
CREATE TABLE accounted (relay BLOB PRIMARY KEY) WITHOUT ROWID;
-- versions that no receipt of the relay covers. `gone`: 1, its author has declared there that nobody can give it any
-- more; 2, an owner let go of it
CREATE TABLE unstored (
    dot BLOB NOT NULL,
    relay BLOB NOT NULL,
    position INTEGER NOT NULL,
    gone INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (dot, relay)
) WITHOUT ROWID;
CREATE INDEX unstored_owed ON unstored (relay, position) WHERE gone = 0;
-- which blob of a relay holds a chunk
CREATE TABLE blob (
    chunk BLOB NOT NULL,
    relay BLOB NOT NULL,
    blob BLOB NOT NULL,
    epoch BLOB NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (chunk, relay)
) WITHOUT ROWID;
"""

_TO_PER_RELAY: Final = f"""
ALTER TABLE blob RENAME TO blob_before;
{PER_RELAY}
INSERT INTO accounted SELECT device FROM relay UNION SELECT relay FROM relay_seen;
-- one bit said that some relay has a version: of one relay it is known which, of several it is not
INSERT INTO unstored (dot, relay, position) SELECT v.dot, a.relay, v.position FROM version v, accounted a
    WHERE v.durable = 0 OR (SELECT count(*) FROM accounted) > 1;
INSERT INTO blob SELECT b.chunk, a.relay, b.blob, b.epoch, b.size FROM blob_before b, accounted a;
DROP TABLE blob_before;
DROP INDEX version_not_durable;
ALTER TABLE version DROP COLUMN durable;
-- read each log once more: its receipts tell what is at which relay, its order the membership at each place
ALTER TABLE relay ADD COLUMN membership BLOB NOT NULL DEFAULT x'';
UPDATE relay SET cursor = 0, head = zeroblob(32);
"""

STORED_EARLY: Final = """
-- versions that a receipt of the relay covers (`gone`: that their author has declared gone there) and that are not
-- listed yet: the index refused to take them, or the key of their entry comes later
CREATE TABLE stored_early (dot BLOB NOT NULL, relay BLOB NOT NULL, gone INTEGER NOT NULL, PRIMARY KEY (dot, relay))
    WITHOUT ROWID;
"""

_TO_STORED_EARLY: Final = f"""
{STORED_EARLY}
-- read each log once more: a receipt of what was not listed then was not counted
UPDATE relay SET cursor = 0, head = zeroblob(32);
"""

RELAY_LOG: Final = """
-- what was read of each relay's log: ids of the records after index `start`, where it has the head `head`
CREATE TABLE relay_log (
    relay BLOB NOT NULL,
    start INTEGER NOT NULL,
    head BLOB NOT NULL,
    ids BLOB NOT NULL,
    PRIMARY KEY (relay, start)
) WITHOUT ROWID;
"""

_TO_RELAY_LOG: Final = f"""
{RELAY_LOG}
-- read each log once more: what it holds was not kept
UPDATE relay SET cursor = 0, head = zeroblob(32);
"""

RETIRES: Final = """
-- what owners let go of at each relay, in the order of its log. `state`: 0 waits, 1 was carried out, 2 was cancelled
CREATE TABLE retire (
    relay BLOB NOT NULL,
    position INTEGER NOT NULL,
    id BLOB NOT NULL,
    data BLOB NOT NULL,
    since_ns INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (relay, id)
) WITHOUT ROWID;
-- stored records that keep nothing any more at a relay
CREATE TABLE let_go (relay BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (relay, id)) WITHOUT ROWID;
"""

PARTIAL: Final = """
-- which staged file holds a part of a node's content
CREATE TABLE partial (node BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
"""

REVIVED: Final = """
-- stored records that were let go of and live again: where the relay's log said so
CREATE TABLE revived (relay BLOB NOT NULL, id BLOB NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (relay, id))
    WITHOUT ROWID;
"""

_TO_NAMED_PARTS: Final = f"""
{REVIVED}
-- rows told more than the name: the next start removes their files and fetches them anew
DROP TABLE IF EXISTS partial;
{PARTIAL}
"""

UPGRADES: Final = {
    1: SAFEGUARDS,
    2: STORED_PARTS,
    3: _TO_PER_RELAY,
    4: _TO_STORED_EARLY,
    5: _TO_RELAY_LOG,
    6: RETIRES,
    7: _TO_NAMED_PARTS,
}
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

-- what each relay has: read up to `cursor`, where `membership` is in force; `seen` are ids of our records in its log
CREATE TABLE relay (
    device BLOB PRIMARY KEY,
    cursor INTEGER NOT NULL,
    head BLOB NOT NULL,
    signed BLOB NOT NULL,
    membership BLOB NOT NULL DEFAULT x''
) WITHOUT ROWID;
CREATE TABLE relay_seen (relay BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (relay, id)) WITHOUT ROWID;

-- the tree last agreed between disk and view, by node; and applies that were begun
CREATE TABLE synced (node BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE intent (node BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;

-- every version known
CREATE TABLE version (
    dot BLOB PRIMARY KEY,
    node BLOB NOT NULL,
    position INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    change TEXT NOT NULL,
    path BLOB NOT NULL,
    content BLOB NOT NULL,
    mtime_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX version_by_node ON version (node, position);

-- where chunks are: in the user's own files, as manifest lists
CREATE TABLE file (number INTEGER PRIMARY KEY, node BLOB NOT NULL UNIQUE);
CREATE TABLE chunk (id BLOB NOT NULL, file INTEGER NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE INDEX chunk_by_id ON chunk (id);
CREATE INDEX chunk_by_file ON chunk (file, offset);
CREATE TABLE list (id BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
"""
    + PARTIAL
    + SAFEGUARDS
    + STORED_PARTS
    + PER_RELAY
    + STORED_EARLY
    + RELAY_LOG
    + RETIRES
    + REVIVED
)
