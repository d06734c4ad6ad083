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
MANIFEST_LIST_BYTES_MAX: Final = 24 * KIB  # 512 items of 32 bytes and a size of at most 9 bytes, and framing
ASSOCIATED_CACHED_MAX: Final = 256  # 100-byte prefixes kept, one for each (kind, folder, epoch) in use
MANIFEST_DEPTH_MAX: Final = 6  # 128^6 chunks is beyond any file system's largest file
PIECE_SIZE_BYTES_MIN: Final = 256  # pieces: deltas inside a chunk; below this the hash (8 bytes) costs too much
PIECE_SIZE_BYTES_MEAN: Final = 1 * KIB  # a small edit costs about one piece; a chunk of 64 KiB has about 64 hashes
PIECE_SIZE_BYTES_MAX: Final = 4 * KIB
FILE_SIZE_BYTES_MAX: Final = 1 << 50  # 1 PiB: the mission's whole capacity in one file
BLOB_SIZE_BYTES_MAX: Final = 320 * KIB  # largest chunk + padding (at most 12 %) + header and tag
ZSTD_LEVEL: Final = 3  # level 1 makes deltas 500 times larger
CUTTING_SIZE_BYTES_MIN: Final = 64  # what the chunker can do; genesis asks for far more, tests for about this
CUTTERS_CACHED_MAX: Final = 64  # chunker tables of 4 KiB kept, one for each folder and its parameters
COMPRESSORS_IDLE_MAX: Final = 8  # contexts of about 1 MiB kept for reuse: more than there are worker threads
DELTA_BASE_BYTES_MIN: Final = 8  # a shorter base is no dictionary to zstd; such a delta is made without one

# --- log -----------------------------------------------------------------------------------------------------
ENTRY_OPS_MAX: Final = 1000  # operations per signature: verification runs at about 20 k/s
ENTRY_PAYLOAD_BYTES_MAX: Final = 4 * MIB  # 1,000 operations with the longest usual paths, sealed
ENTRY_ENVELOPE_BYTES_MAX: Final = 256 * KIB  # `seen` names at most SEEN_MAX heads
ENTRY_BATCH_BYTES_MAX: Final = 3 * MIB  # operations before sealing: with padding they stay below the payload's bound
BATCH_CHAINS_MAX: Final = 10_000  # chains that one batch names: more than a folder usually has
OP_VERSIONS_MAX: Final = 1000  # versions that one operation replaces: concurrent edits of one path
OP_CARRIES_MAX: Final = 50_000  # versions that one move carries; a larger directory is moved by several operations
OP_KEEPS_MAX: Final = 10_000  # conflict copies on disk near one operation
DROP_ITEMS_MAX: Final = 50_000  # nodes in one drop, at ~30 bytes; a larger directory is dropped in several operations
SEEN_MAX: Final = 2000
NAME_BYTES_MAX: Final = 255  # what POSIX file systems hold
PATH_DEPTH_MAX: Final = 512
PATH_BYTES_MAX: Final = 64 * KIB
LINK_TARGET_BYTES_MAX: Final = 4096  # PATH_MAX
MEMBERS_MAX: Final = 10_000
STORED_BLOBS_MAX: Final = 20_000  # blobs in one stored record: 20,000 x ~120 bytes = 2.4 MiB
MEMBERSHIP_ENTRY_BYTES_MAX: Final = 4 * MIB  # a rekey carries one ~150-byte box for each of MEMBERS_MAX members

# --- metalog, tickets ----------------------------------------------------------------------------------------
ENTRY_BYTES_MAX: Final = ENTRY_ENVELOPE_BYTES_MAX + ENTRY_PAYLOAD_BYTES_MAX + 128  # with signature and framing
ENTRIES_WAITING_MAX: Final = 4096  # entries kept whose past is missing; further ones are asked for again
ENTRIES_WAITING_BYTES_MAX: Final = 64 * MIB  # the same in bytes: sixteen entries of the largest size
COUNTER_MAX: Final = (1 << 63) - 1  # sequence numbers, indexes, times: what SQLite holds in one integer
FOLDER_RELAYS_MAX: Final = 16  # relays of one folder
ADDRESSES_MAX: Final = 8  # addresses of one device or relay in a ticket or membership entry
ADDRESS_CHARS_MAX: Final = 400  # a 253-character host name, a port, and an 84-character relay token
SEALED_NAME_BYTES_MAX: Final = 512  # a name of NAME_BYTES_MAX, padded, with nonce and tag
KEY_BOX_BYTES_MAX: Final = 256  # folder secret and epoch key (64 bytes) sealed to one box key
WRAPPED_KEYS_MAX: Final = 16  # earlier epoch keys wrapped in one rekey: the previous one, and losers of conflicts
INVITES_OPEN_MAX: Final = 1000  # tickets issued and neither used nor revoked; each costs a box per rekey
PINS_MAX: Final = 1000  # chains of one device at its removal: one more for each lost or restored index
POLICY_BYTES_MAX: Final = 64 * KIB
STORED_DOTS_MAX: Final = 10_000  # dots in one stored record: 46 bytes each, ten full entries
STORED_PARTS_MAX: Final = 1024  # parts of one stored record: the lists that a list names, or 1,000 large versions
STORED_SEALED_BYTES_MAX: Final = 2560 * KIB  # STORED_BLOBS_MAX rows of about 120 bytes, padded and sealed
STORED_EPOCHS_MAX: Final = 256  # epochs that the blobs of one stored record were sealed under: as many rekeys
STORED_RECORD_BYTES_MAX: Final = 4 * MIB  # 460 KB of dots, 680 KB of blob ids and the sealed list
RETIRE_RECORDS_MAX: Final = 20_000  # stored records in one retire record, or let go of in one run: 680 KB
RETIRES_OPEN_MAX: Final = 1024  # retire records of one folder that a relay has not carried out yet: a month of hourly
RECEIPT_BYTES_MAX: Final = 512  # receipts and signed heads: five ids, three numbers, one signature
REPLICAS_MAX: Final = 64  # copies that one relay may claim
EVIDENCE_RECORDS_MAX: Final = 200_000  # record ids between the two words of evidence: a log of as many records
EVIDENCE_BYTES_MAX: Final = 7 * MIB  # those ids, two signed words and framing
EVIDENCE_FILES_MAX: Final = 64  # evidence files of one folder: one for each of its relays, and for those that left it
RELAY_WORDS_WAITING_MAX: Final = 64  # words of one relay that wait until its log was read that far
RELAY_HEADS_HEARD_MAX: Final = 256  # heads that members brought and that are not verified again: 16 devices and relays
RELAY_CLAIMS_MAX: Final = 64  # what entries say of one relay's log that was not read that far: one for each author
CHECKPOINT_STATE_BLOBS_MAX: Final = 20_000  # 20,000 x 256 KiB: 5 GiB of state, 10 million files
CHECKPOINT_BYTES_MAX: Final = 2 * MIB  # HEADS_MAX heads of 78 bytes and the ids of the state's blobs
TICKET_BYTES_MAX: Final = 8 * KIB  # ADDRESSES_MAX addresses and relays at their longest
CODE_WORDS_MIN: Final = 3  # of 2048: 33 bits, of which an attacker may guess once for each code
CODE_WORDS_MAX: Final = 8  # what a later version may make
CODE_NUMBER_MAX: Final = 9999  # four digits to type; numbers only have to differ among codes open at one place
CODE_NUMBER_USUAL_MAX: Final = 99  # tried first
CODE_CHARS_MAX: Final = 200  # CODE_WORDS_MAX words of eight letters, with generous blanks
PASSPHRASE_CHARS_MIN: Final = 8  # below that, guessing is cheap whatever a guess costs
PASSPHRASE_BYTES_MAX: Final = 1024  # what a pipe holds without a reader, and more than anybody types
PASSPHRASE_PASSES: Final = 3  # of Argon2id: with the memory below up to a second on one core
PASSPHRASE_MEMORY_BYTES: Final = 256 * MIB  # of Argon2id, once at each start
PASSPHRASE_PASSES_MAX: Final = 16  # that a key file may ask for: it is read before it is believed
PASSPHRASE_MEMORY_BYTES_MAX: Final = 1024 * MIB
KEY_FILE_BYTES_MAX: Final = KIB  # our own key file: a seed, sealed, and its parameters
MODES_NAMED_MAX: Final = 5  # files whose mode is wrong, named in one refusal; the others in the next
SHEET_WORDS: Final = 24  # of 2048: 32 bytes and a checksum of one
SHEET_CHARS_MAX: Final = 600  # SHEET_WORDS words of eight letters, numbered, with generous blanks
SHEET_NOTE_BYTES_MAX: Final = 4 * KIB  # our own note of a sheet's public part, and of those that it replaced
SHEETS_REPLACED_MAX: Final = 64  # earlier sheets that are still to be removed from some folder
SHEET_TICKET_EXPIRES_S: Final = 1 << 32  # the year 2106: a machine that comes new may have any clock; it serves once
NAMES_TRIED_MAX: Final = 1000  # "Docs (2)" and on, for a directory that nothing lies in
CODE_LIFE_S: Final = 600.0  # a code is told at once, or a ticket is what is wanted
CODE_TICKET_BYTES_STEP: Final = 1 * KIB  # a sealed ticket is filled up to a multiple, to blur its addresses
CODE_SEALED_BYTES_MAX: Final = 16 * KIB  # a ticket of TICKET_BYTES_MAX in base32, filled up and sealed

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

# --- transport -----------------------------------------------------------------------------------------------
HANDSHAKE_TIMEOUT_S: Final = 10.0  # from the first datagram to the accepted proof; slow links need about 4 round trips
HANDSHAKE_BYTES_MAX: Final = 64 * KIB  # datagram bytes taken from a peer before its proof; a real one needs about 8 KiB
LINKS_UNAUTHENTICATED_MAX: Final = 256  # dialled links without a proof: 256 x (64 KiB + engine state) is about 40 MiB
LINKS_UNAUTHENTICATED_PER_SOURCE_MAX: Final = 16  # the same, from one IPv4 address or IPv6 /64; a NAT hides few devices
LINKS_ACCEPT_QUEUE_MAX: Final = 64  # authenticated links that nobody has accepted yet; further ones are told "busy"
LINK_IDLE_TIMEOUT_S: Final = 30.0  # a silent peer is gone; the QUIC default of several implementations
LINK_PING_INTERVAL_S: Final = 10.0  # keeps NAT bindings (30 s at the shortest in the field) and measures the round trip
LINK_CLOSE_TIMEOUT_S: Final = 2.0  # for the last datagrams of a link that is being closed
DIAL_TIMEOUT_S: Final = 10.0  # to a link on which both proofs are complete
DATAGRAM_BYTES: Final = 1452  # UDP payload that fits 1,500-byte Ethernet under IPv6
SOCKET_BUFFER_BYTES: Final = 8 * MIB  # 40 ms at 200 MB/s: what arrives while the loop is busy elsewhere
SOCKET_BURST_READS_MAX: Final = 32  # reads of up to 64 KiB per wake-up, then other work gets a turn
SOCKET_UNSENT_BYTES_MAX: Final = 4 * MIB  # datagrams that the kernel refused for now; above, engines wait
GSO_SEGMENTS_MAX: Final = 64  # UDP_MAX_SEGMENTS of Linux before 6.9
GSO_BYTES_MAX: Final = 65_000  # one UDP datagram before segmentation, less headers
RETRY_TOKEN_LIFETIME_S: Final = 10.0  # a client returns its token within one round trip
STREAM_SEND_BUFFER: Final = 1 * MIB  # bytes that a stream queues before `send` waits
STREAM_WINDOW_BYTES: Final = 6 * MIB  # first receive window of a stream: 200 MB/s over 30 ms
LINK_WINDOW_BYTES: Final = 12 * MIB  # first receive window of a link
ENGINE_UNSENT_BYTES_MAX: Final = 128 * KIB  # bytes in the engine and not yet sent: a small message waits behind
SEND_PIECE_BYTES: Final = 64 * KIB  # bytes of one stream handed to the engine before the next stream's turn
RECEIVE_UNREAD_MAX: Final = 16 * MIB  # unread bytes of a stream: twice what one request may have outstanding
RECEIVE_UNREAD_LINK_MAX: Final = 32 * MIB  # unread bytes of all streams of a link
RECEIVE_GAP_BYTES_MAX: Final = 4 * MIB  # how far beyond the delivered bytes a frame may start, after the proof
RECEIVE_GAP_BYTES_MAX_UNAUTHENTICATED: Final = 64 * KIB  # the same before the proof
RECEIVE_GAP_LINK_BYTES_MAX: Final = 16 * MIB  # reassembly buffers of all streams of a link, gaps included
UNDELIVERED_BYTES_MAX: Final = 16 * MIB  # received and not delivered, duplicates and overhead forgiven in proportion
UNDELIVERED_FORGIVEN_BYTES_PER_S: Final = 256 * KIB  # acknowledgements, pings, repeats that nothing else explains
MEMORY_LINK_WINDOW_BYTES: Final = 512 * KIB  # in flight on an in-process link: several pieces, few enough to block
STREAMS_MAX: Final = 64  # streams of a link opened by one side and not finished; engines allow 100

# --- store ---------------------------------------------------------------------------------------------------
PACK_BYTES_TARGET: Final = 64 * MIB  # a pack is closed at this size: scan, compaction and object uploads stay short
PACK_RECORD_BYTES_MAX: Final = 96 * MIB  # the trailer of a pack of the smallest blobs; a longer length is damage
STORE_BLOB_BYTES_MAX: Final = 5 * MIB  # one frame: no stored object is larger than what travels in one piece
STORE_DELETE_ITEMS_MAX: Final = 100_000  # ids in one GONE record: 3 MiB
STORE_LOOKUP_ITEMS_MAX: Final = 500  # ids bound into one SQL statement; SQLite allows 32,766
STORE_SCRUB_BYTES: Final = 256 * MIB  # bytes checked by one scrub step unless told otherwise: about 0.2 s of one core
STORE_COMPACT_BLOBS: Final = 64  # blobs held in memory while a pack is rewritten
PACK_LIVE_SHARE_MIN: Final = 0.5  # a closed pack with less live bytes is rewritten: at most twice the live

# --- local API, command line ---------------------------------------------------------------------------------
SOCKET_PATH_BYTES_MAX: Final = 107  # sun_path of Linux holds 108 bytes with its end
API_REQUEST_BYTES_MAX: Final = 256 * KIB  # the largest request is a path of PATH_BYTES_MAX in escaped JSON
API_REQUESTS_MAX: Final = 64  # requests served at once; the clients are this user's own programs
API_BACKLOG_MAX: Final = 64  # connections not yet accepted
API_KEEP_ALIVE_S: Final = 5
API_STOP_TIMEOUT_S: Final = 3  # for answers under way when the agent ends; event streams never end by themselves
EVENTS_RING_MAX: Final = 1024  # events kept for replay by Last-Event-ID
EVENT_STREAMS_MAX: Final = 16  # pages and scripts that listen at once
EVENTS_PING_S: Final = 15.0  # a comment on a silent event stream, so that a dead listener is noticed
PAGE_PORT: Final = 8520  # of the local page, so that a browser knows it again; any other one where it is taken
PAGE_KEY_S: Final = 60.0  # in which an address of the page opens it: for a browser to start, and no longer
PAGE_KEYS_MAX: Final = 8  # addresses that were given out and not opened yet; the oldest makes room
PAGE_SESSIONS_MAX: Final = 16  # pages open at once; the oldest makes room
JOBS_RUNNING_MAX: Final = 64
JOBS_KEPT_MAX: Final = 256  # finished jobs whose result can still be asked for
JOB_WAIT_S_MAX: Final = 30.0  # longest time one request waits for a job
JOB_RATE_WINDOW_S: Final = 5.0  # the rate shown is the mean over this time
EXPIRES_S_MAX: Final = 90 * 86_400.0  # an invitation lives at most 90 days
WAIT_S_MAX: Final = 7 * 86_400.0  # longest `wait`
CLI_REQUEST_TIMEOUT_S: Final = 60.0  # silence from the agent after which a command gives up
CLI_ANSWER_BYTES_MAX: Final = 1 * GIB  # the listing of a folder with millions of versions
UP_TIMEOUT_S: Final = 30.0  # from starting the agent to its ready line, with a large index to open
UP_RELAY_WAIT_S: Final = 3.0  # `up` waits this long to show the relay as connected
DOWN_TIMEOUT_S: Final = 30.0  # for a running agent to finish its work and end
READY_LINE_BYTES_MAX: Final = 16 * KIB
PROGRESS_AFTER_S: Final = 2.0  # shorter work shows no progress bar
LOG_TAIL_BYTES_MAX: Final = 2 * KIB  # of agent.log, shown when the agent did not start
CONFIG_BYTES_MAX: Final = 64 * KIB
RELAYS_MAX: Final = 8  # relays one agent keeps a link to
OVERTAKEN_TOLD_MAX: Final = 20  # membership changes that lost against another owner's, told until the agent ends
MEMBER_NOTES_BYTES_MAX: Final = 4 * MIB  # our own: 128 bytes for each of MEMBERS_MAX, and ids of adopted entries
FAREWELL_S: Final = 5.0  # a device that was removed keeps its link for it, to read the entry that says so
REFUSED_TOLD_MAX: Final = 20  # devices of whose refused entries the user is told until the agent ends
LEAVE_LOOK_S: Final = 0.05  # between looks whether it was taken
LEAVE_TELL_S: Final = 5.0  # for a relay or a member to take the entry by which a device leaves
EARLIER_EPOCHS_MAX: Final = 8  # epochs by whose discovery keys a member that missed their end is recognised
DEMO_COMMAND_TIMEOUT_S: Final = 60.0  # one command of the demonstration, on a slow machine
DEMO_SETTLE_TIMEOUT_S: Final = 60.0  # for two agents on loopback to agree on 64 MiB, on a slow machine

# --- agent ---------------------------------------------------------------------------------------------------
SERVE_PART_BYTES: Final = 1 * MIB  # chunks read and sealed in one thread job; two such parts are held for each request
PIECE_DELTA_RATIO_MAX: Final = 0.7  # a piece delta longer than this share of the chunk is not worth its failure case
FETCH_BATCH_BYTES: Final = 2 * MIB  # asked for in one request: long enough to fill the link, short enough to move over
FETCH_BATCHES_PER_SOURCE: Final = 3  # requests under way at one source: hides the round trip and the opening of chunks
FETCH_LATE_BYTES_MAX: Final = 8 * MIB  # of chunks that came after their request was given up; as much as is on its way
FETCH_OPEN_BYTES: Final = 512 * KIB  # sealed bytes opened in one thread job
FETCH_ANSWER_S: Final = 120.0  # for a member's next answer, after which others are asked: 256 KiB at 3 kB/s
FETCH_RETRY_S: Final = 5.0  # seconds after which sources that lacked a chunk are asked again
FETCH_DAMAGED_TRIES_MAX: Final = 3  # times one source may answer a chunk with bytes that fail their check
SERVED_STREAMS_MAX: Final = 64  # streams of one link that are answered at once; more wait to be accepted
FOLLOW_RETRY_S: Final = 1.0  # seconds, doubling to 60, before a member that refused is asked again
PAIR_TRIES_MAX: Final = 5  # admissions that lose against another change of the membership chain
DIAL_JITTER_S: Final = 0.3  # spread of the first attempt, so that two devices that find each other rarely dial at once
DIAL_PAUSE_S: Final = 1.0  # before the second attempt, doubling
DIAL_PAUSE_S_MAX: Final = 60.0
DIAL_TRIES_MAX: Final = 1000  # attempts at one announcement: most of a day
DIAL_TARGETS_MAX: Final = 1000  # announcements remembered
UPLOAD_BATCH_BYTES: Final = 4 * MIB  # offered to a relay at once, sealed; half of WANT_BYTES_MAX: padding fits
UPLOAD_LOOK_S: Final = 10.0  # between looks for versions of devices that went off before they uploaded them
UPLOAD_PARTS_PIECES: Final = 1024  # pieces of a large version between two appends: 64 MiB are never uploaded again
UPLOAD_PARTS_GROUPS_MAX: Final = 4  # such groups before other versions get a turn: seconds on a fast line
UPLOAD_RECORD_VERSIONS_MAX: Final = 1000  # versions in one stored record: a receipt comes within seconds
SAMPLE_BLOBS: Final = 8  # blobs asked back from a relay at a time, to see whether they are still there: half a MiB
SAMPLE_S: Final = 86_400.0  # between two such looks on one link: of a lost half the first finds all but 1 in 250
SAMPLE_FIRST_S: Final = 3600.0  # before the first such look after a start: a restart moves no content
LOST_BLOBS_MAX: Final = 1000  # blobs that a relay names at a time as lost: 32 KB
SAMPLE_SUSPECTS_MAX: Final = 1024  # blobs that a relay did not give and that are asked for once more
UPLOAD_RETRY_S: Final = 5.0  # before what a relay refused for want of room is offered again, doubling
UPLOAD_RETRY_S_MAX: Final = 60.0  # then an offer a minute, a few hundred bytes
UPLOAD_FETCH_S: Final = 30.0  # for the next chunk that one relay is to give for another: 256 KiB at 9 kB/s
RELAY_APPEND_ENTRIES_MAX: Final = 256  # entries appended in one request: one group commit at the relay
SQL_VALUES_MAX: Final = 500  # ids in one statement: SQLite takes 999 values where it was built long ago
SYNCED_ROW_BYTES_MAX: Final = 64 * MIB  # our own row: it names every version that a path stands for
FETCH_VERSIONS_MAX: Final = 512  # versions of one folder fetched or staged at once: a descriptor each, of usually 1,024
FETCH_SMALL_BATCH: Final = 64  # files of one chunk that are looked up and asked for together
FETCH_PARTIAL_BYTES_MIN: Final = 4 * MIB  # a smaller version is fetched anew after a restart rather than recorded
APPLY_THREADS: Final = 3  # files made durable at once: each waits for the disk most of the time
APPLY_BATCH_MAX: Final = 96  # groups of actions in one thread job and transaction: a few fsyncs for each
PUBLISH_QUIET_S: Final = 0.0  # seconds a folder must be quiet before its changes are published
RESCAN_S: Final = 3600.0  # seconds between full scans where the watcher works; it is a hint, the scan is the truth
RESCAN_LIMITED_S: Final = 60.0  # where directories cannot be watched
RESTORE_LISTED_MAX: Final = 1000  # paths that an answer names
TREE_LISTED_MAX: Final = 10_000  # names of a directory in one answer; the rest is asked for from the last one on
SNAPSHOTS_MAX: Final = 10_000  # of one folder: each is kept in memory and listed
RESTORE_AT_ONCE: Final = 8  # files whose content is brought at a time
RESTORE_BATCH_FILES: Final = (
    128  # each is an open file; files put in place between two plans: the rest of the folder waits that long
)
RESTORE_BATCH_BYTES: Final = 256 * MIB  # or staged beside those of the batch, whichever comes first
BACKUP_CHECK_S: Final = 60.0  # seconds after which a backup that hears nothing looks whether its disk still answers
BACKUP_LOOK_S: Final = 1.0  # between two looks at what members brought: what is shown need not be newer
RETRY_BLOCKED_S: Final = 10.0  # seconds before an action that was blocked (disk full, permission) is tried again
HANDOUTS_MAX: Final = 100  # files that one device shares by themselves or was given: each is a folder with its index
HANDOUT_NOTE_BYTES_MAX: Final = 16 * KIB  # our own note: two paths of PATH_MAX and two contents
HANDOUT_LOOK_S: Final = 60.0  # an invitation to a file that ran out unused is noticed and forgotten within this time
HANDOUT_PAUSE_S: Final = 0.2  # between two looks at one such file, however much changes elsewhere
PLACE_NAMES_MAX: Final = 1000  # "plan (2).txt" and on, tried where a file is to be put and the name is taken
FOLDER_CLOSE_S: Final = 60.0  # for threads to end when a folder closes: a large file is read and synced
ROUNDS_QUIET_MAX: Final = 100  # plans made in a row without anything else happening, before the loop pauses
JOIN_LAN_S: Final = 4.0  # seconds for the inviter to answer before a relay in the ticket is asked
SHARE_RELAY_S: Final = 5.0  # `share` waits this long for a linked relay to have the invitation
SHARE_RELAY_LOOK_S: Final = 0.05
JOIN_CHAIN_BYTES_MAX: Final = 256 * MIB  # the membership chain a newcomer takes: 170 rekeys of MEMBERS_MAX members
JOIN_TIMEOUT_S: Final = 30.0  # the same without a relay
CODES_MAX: Final = 16  # codes of this device that are open or just ended; an older one is withdrawn for a newer
CODE_NUMBER_TRIES: Final = 16  # numbers drawn before one that may be in use elsewhere is taken
CODE_ASKS_MAX: Final = 256  # exchanges begun for one code, at a millisecond each; its one newcomer begins a few
CODE_ANSWER_S: Final = 10.0  # for the other side's next message: a few round trips and 1 ms of work
CODE_FIND_S: Final = 20.0  # for a device that announces the number, over mDNS and a relay that is being linked
CODE_LAN_FIRST_S: Final = 1.0  # for a device on the network to be found, before a relay is asked for it
CODE_SLOT_PAUSE_S: Final = 3.0  # between looks into a relay's slot, far below what a relay allows one address
CODE_MORE_S: Final = 1.0  # after a candidate that did not know the words, for one that does
CODE_CANDIDATES_MAX: Final = 64  # devices asked whether they have a code with the number; most have not
CODE_TRIES_MAX: Final = 4  # of these, devices that are shown a proof: each may test one guess of the words
NEWCOMER_LINKS_MAX: Final = 16  # links to devices that are in no folder of ours, while an invitation is open
NEWCOMER_LINK_S: Final = 120.0  # such a link ends unless the device has become a member
FOUND_LISTED_MAX: Final = 1000  # files that a search by name answers with
VERSIONS_LISTED_MAX: Final = 100_000  # versions in one listing
CAT_WAIT_S: Final = 20.0  # for one piece of an old version to be found
GC_THRESHOLDS: Final = 10_000, 10, 20  # new objects for each collection: a view of many files is walked less often
MALLOC_MMAP_THRESHOLD_BYTES: Final = 32 * MIB  # larger buffers are mapped and unmapped at each use, which halves speed
RANGES_PER_CHUNK_MAX: Final = 4  # of the user's files in which one chunk is looked for
WAIT_NOTICE_S: Final = 0.2  # `wait` gives the watcher this long to tell of what was written just before
LOOK_FILES_MAX: Final = 500  # new files read before they are published: half an entry, a quarter of a second
LOOK_BYTES_MAX: Final = 64 * MIB  # the same for larger ones
DESCRIPTORS_MAX: Final = 65_536  # staged files and links of many folders; the usual soft limit is 1,024
LINK_RACE_S: Final = 5.0  # within which two devices that found each other may both have dialled
FETCH_LOCAL_CHUNKS: Final = 32  # chunks looked for on this device in one thread job
FETCH_DELTA_CHUNKS_MAX: Final = 8  # of FETCH_LOCAL_CHUNKS; with more of them missing no deltas are asked for
FOLDER_KEYS_BYTES_MAX: Final = 1 * MIB  # the key file of a folder: 64 bytes for each epoch
FETCH_WINDOW_CHUNKS: Final = 192  # chunks of one file asked for and not yet written: 12 MiB at the mean size
ELAPSED_MARK_S: Final = 3600  # between two notes of how long the log here is: hours are what a policy names
ELAPSED_MARKS_MAX: Final = 10_000  # such notes of one folder: the last 200 days by the hour, older ones less closely
ELAPSED_BYTES_MAX: Final = MIB  # these notes: 20 bytes each
ELAPSED_PAUSE_S: Final = 7 * 24 * 3600  # a longer pause of the agent counts as none: its end may be a wrong clock
VIEWS_AT_ONCE_MAX: Final = (
    4  # views of the past that are made in one pass over the log, for snapshots to be looked through
)
LET_GO_S: Final = 24 * 3600.0  # between two looks for versions that the policy keeps no longer
LET_GO_FIRST_S: Final = 900.0  # from the link with a relay to the first look: devices are not on for long every day
LET_GO_WAIT_S: Final = 300.0  # that a user waits for the relays to take what `gc` lets go of


# --- folder --------------------------------------------------------------------------------------------------
FOLDER_LISTING_ENTRIES_MAX: Final = 2_000_000  # names of one directory held while it is sorted: about 200 MiB
FOLDER_SCAN_BATCH_ITEMS_MAX: Final = 1000  # objects per step of a scan: about 10 ms in a thread, then others run
FOLDER_PATH_SEGMENT_BYTES_MAX: Final = 4000  # one system call takes PATH_MAX = 4096 bytes with the final NUL
FOLDER_OPEN_TRIES_MAX: Final = 8  # openat2 answers EAGAIN while directories are renamed; then walk by component
FOLDER_RACY_WINDOW_NS: Final = 2_000_000_000  # FAT and HFS+ keep 2 s and 1 s; a kernel tick is at most 10 ms
FOLDER_TICK_NS: Final = 10_000_000  # the longest kernel tick: file times are multiples of 1, 4 or 10 ms, or finer
FOLDER_RACY_FINE_WINDOW_NS: Final = 3 * FOLDER_TICK_NS  # where file times come from the kernel's clock, not the disk's
FOLDER_WRITEBACK_WINDOW_NS: Final = 60_000_000_000  # dirty pages are written by the kernel within 30 + 5 s
FOLDER_READ_WINDOW_BYTES: Final = 1 * MIB  # read size for cutting: per-call cost vanishes, four chunks of the largest
FOLDER_RANGE_BYTES_MAX: Final = 1 * MIB  # one ranged read for serving; a chunk is at most 256 KiB
FOLDER_MARKER_BYTES_MAX: Final = 4 * KIB  # the marker has 83 bytes; more is not ours
FOLDER_STAGING_ENTRIES_MAX: Final = 100_000  # files looked at by one recovery; the rest waits for the next
FOLDER_STAGING_FREE_BYTES_MIN: Final = 16 * MIB  # left free for the user and the file system's own metadata
FOLDER_DIRTY_PATHS_MAX: Final = 10_000  # beyond this a whole scan costs less than remembering paths
FOLDER_WATCH_DELAY_S: Final = 0.05  # changes within it are told together; far below what a user notices
IGNORE_BYTES_MAX: Final = 256 * KIB  # of .meshignore that are read
IGNORE_PATTERNS_MAX: Final = 2000  # each costs a regular expression per path
IGNORE_STARS_PER_NAME_MAX: Final = 3  # n stars backtrack in the order of 255^n steps

# --- sync ----------------------------------------------------------------------------------------------------
DERIVED_NAME_TRIES: Final = 4  # 8, 16, 32, 64 hex digits: nobody can find two nodes that collide in all of them
LISTING_MERGED_CACHED_MAX: Final = 10_000  # directories whose merged ones are held between two changes: about 2 MiB
DERIVED_EXTENSION_BYTES_MAX: Final = 16  # a longer tail after the last dot is not an extension
SYNC_ITEMS_PER_DROP_MAX: Final = 10_000  # at most 2 MiB of a batch; a larger directory is dropped in several operations
SAFETY_CHANGES_MIN: Final = 100  # files; fewer are a user's ordinary work and never held
SAFETY_DELETED_SHARE_MAX: Final = 0.3  # of all files in the folder: more is an accident until the user says otherwise
SAFETY_REWRITTEN_SHARE_MAX: Final = 0.5  # the same for new contents: a build or a checkout rewrites up to half
SAFETY_WINDOW_S: Final = 3600.0  # changes within it are weighed together, so that many small steps are one mass change
SAFETY_EMPTIED_MIN: Final = 10  # files: the last few of a folder may go, a filled one is not emptied unasked
SAFETY_BURST_S: Final = 10.0  # deletions within it are one act, seen in parts: for a folder below SAFETY_CHANGES_MIN
BASELINE_BYTES_MAX: Final = 4 * MIB  # our own record of how far 100,000 chains were known when this device joined
HELD_EXAMPLES_MAX: Final = 5  # paths shown for each hold
HELD_ID_BYTES: Final = 3  # six digits to type; a folder has a handful of holds, and a taken id is not given again
SOUGHT_BYTES_MAX: Final = 64 * MIB  # our own: 36 bytes for each file that a rejection brings back, of a million
SOUGHT_LOOK_S: Final = 1.0  # between looks whether what a rejection brings back came, or is nowhere
SOUGHT_RETRY_S: Final = 600.0  # until the same members are asked again for what none had: a disk may have been away
LOST_TOLD_MAX: Final = 1000  # paths that a rejection could not bring back, named in its answer
REJECT_ANSWER_S: Final = 10.0  # for a rejection to say what nobody has; fetching all may take hours and goes on
NODE_ROW_BYTES_MAX: Final = 64 * MIB  # a directory's moves, each with what it carried
DIFF_BYTES_MAX: Final = 64 * MIB  # of each of two versions that are compared in memory
MERGE_BYTES_MAX: Final = 1 * MIB  # a text of more is nobody's notes, and three of them are held in memory
PLAIN_NAME_TRIES: Final = 100  # copies of one file from one device that lie under plain names
MERGE_DISTANCE_MAX: Final = 1000  # lines put in or left out: time and 8 bytes of memory for its square, half a second
ANCESTORS_MAX: Final = 64  # earlier versions looked at; a joiner's staler copy shows as a conflict copy, never vanishes

# --- discovery -----------------------------------------------------------------------------------------------
DISCOVERY_TAGS_MAX: Final = 40  # tags in one announcement: 320 bytes of TXT, so that it fits one mDNS packet
DISCOVERY_TAGS_STEP: Final = 4  # random tags fill up to a multiple, to blur how many folders a device has
DISCOVERY_ADDRESSES_MAX: Final = 8  # addresses taken from one announcement: a usual machine has fewer
DISCOVERY_RESOLVES_MAX: Final = 32  # announcements being resolved at once; more are ignored and reported
DISCOVERY_RESOLVE_TIMEOUT_S: Final = 3.0  # how long zeroconf asks for an announcement's address and tags

# --- relay ---------------------------------------------------------------------------------------------------
RELAY_PUT_BATCH_BYTES: Final = 8 * MIB  # blobs that share one sync: at 200 MB/s a sync every 40 ms
RELAY_COMMIT_CHANGES_MAX: Final = 256  # changes of the log that share one commit
RELAY_LOG_BUSY_S: Final = 5.0  # wait for another process (backup, status) that holds the log's lock
RELAY_UPLOAD_BYTES_MAX: Final = 256 * MIB  # bytes of uploads asked for and not yet stored, over all links
RELAY_FETCH_BYTES_MAX: Final = 64 * MIB  # bytes of blobs read and not yet sent, over all links
RELAY_FOLLOWERS_MAX: Final = 100_000  # follow streams of all links: one integer and one task each
RELAY_LINKS_MAX: Final = 10_000  # authenticated links at once
RELAY_FOLDERS_CACHED_MAX: Final = 1000  # membership states held in memory; others are folded again when asked for
RELAY_APPEND_TRIES_MAX: Final = 16  # decisions on one append while other processes move the folder's log
RELAY_LEASE_S: Final = 24 * 3600  # an upload may pause for a night before its blobs are collected
RELAY_REQUEST_TIMEOUT_S: Final = 120.0  # a stream that is in the middle of a message or upload for longer is dropped
RELAY_UPLOAD_TIMEOUT_S: Final = 600.0  # from Wanted to the last blob of 8 MiB: uplinks below 14 kB/s offer less
RELAY_FOLDER_BYTES_MAX: Final = 1 << 40  # quota of a folder unless told otherwise: 1 TiB
RELAY_LOSSES_MAX: Final = 100_000  # blobs of one folder that are told as lost: 3 MB; the rest once these are back
RELAY_VERIFY_ITEMS_MAX: Final = 20_000  # promised blobs that are looked for at a time: 640 KB, about 50 ms
RELAY_UPKEEP_INTERVAL_S: Final = 600.0  # between steps of scrub and collection: 256 MiB each is 36 GiB a day
RELAY_COLLECT_ITEMS_MAX: Final = 1000  # blobs removed while uploads are held off: about 10 ms
RELAY_GRACE_S: Final = 7 * 24 * 3600  # what is retired stays that long: a week to notice a mistake
RELAY_COMPACT_PACKS: Final = 4  # packs rewritten in one step: at most 128 MiB copied while uploads wait
SLOT_MESSAGE_BYTES_MAX: Final = CODE_SEALED_BYTES_MAX + KIB  # the longest of a code exchange, which holds the ticket
SLOT_MESSAGES_MAX: Final = 4  # each way through one slot: an exchange has two
SLOT_TALK_S: Final = 30.0  # from entering a slot to its end: both answers of an exchange at their slowest
SLOT_KEEP_S: Final = 10.0  # a slot stays its device's after somebody was there, so that it can be opened again
SLOT_LIFE_S: Final = CODE_LIFE_S + 60.0  # a slot nobody enters is closed: no code is open for longer
SLOTS_MAX: Final = 2000  # open or kept at one relay; fewer than there are numbers
SLOTS_PER_DEVICE_MAX: Final = 16  # as many codes as one device has open
SLOTS_PER_SOURCE_MAX: Final = 64  # of one address, so that many keys made in one place do not take all
SLOT_ENTERS_PER_SOURCE_MAX: Final = 20  # within SLOT_ENTERS_WINDOW_S: trying all numbers, to end codes, takes hours
SLOT_ENTERS_WINDOW_S: Final = 60.0
SLOTS_PURGE_S: Final = 1.0  # between two looks at all slots for those that have ended
SLOT_SOURCES_MAX: Final = 10_000  # addresses whose entries are counted
FOLDERS_LISTED_MAX: Final = 256  # folders told to a recovery sheet in one answer: 8 KiB
RELAY_INVITATIONS_MAX: Final = 100  # invitations in force; each proof is compared with all of them
RELAY_THREADS: Final = 8  # blocking calls at once: one writer each for log and packs, the rest read and verify
RELAY_STOP_TIMEOUT_S: Final = 5.0  # for requests under way when the relay stops
