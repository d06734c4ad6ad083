"""The values of the local API, schema 1: what the daemon answers and what scripts read as JSON.

Invariant: fields may be added with a default, none is renamed or removed within schema 1. Times are RFC 3339 in UTC
(`2026-01-31T12:00:00.000000Z`), sizes are bytes, durations end in `_s` or `_ms`, rates in `_bytes_s`. Paths and names
are text in which a byte that is not UTF-8 is a surrogate escape (PEP 383), so `os.fsencode` gives the exact bytes back.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from meshsync.agent.api_backup import KeptFolder
from meshsync.agent.api_handouts import SharedFile

Role = Literal["owner", "writer", "reader", "backup"]
CodePhase = Literal["none", "open", "tried in vain", "ended"]
LinkPath = Literal["lan", "direct", "relay", "offline"]
FolderPhase = Literal["in sync", "scanning", "syncing", "paused", "held", "error"]
HeldSide = Literal["publish", "apply"]
HeldKind = Literal["deletion", "rewrite"]
Decision = Literal["released", "rejected"]
Winner = Literal["mine", "theirs", "both", "merged"]
EntryKind = Literal["file", "directory", "link"]
ChangeKind = Literal["created", "edited", "renamed", "deleted", "restored", "conflict"]
JobPhase = Literal["running", "done", "failed"]


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every value of the API."""


class Answer(Schema, frozen=True, kw_only=True):
    """Base of every top-level answer."""

    schema: int = 1


# --- status --------------------------------------------------------------------------------------------------


class DeviceName(Schema, frozen=True, kw_only=True):
    """A device: `id` is the hex of its public key, `name` what its user calls it."""

    id: str
    name: str


class HealthItem(Schema, frozen=True, kw_only=True):
    """Something the user should know: what happened, why, and the next command to type. `code` names a typed error."""

    what: str
    why: str = ""
    next: str = ""
    code: str = ""


class RelayState(Schema, frozen=True, kw_only=True):
    """One configured relay. `rtt_ms` is null while not connected."""

    address: str
    connected: bool
    rtt_ms: float | None = None


class DeviceState(Schema, frozen=True, kw_only=True):
    """One other device. `seen` is when it was last linked; null: never."""

    id: str
    name: str
    path: LinkPath
    rtt_ms: float | None = None
    seen: str | None = None
    address: str = ""
    down_bytes_s: float = 0.0
    up_bytes_s: float = 0.0


class Pending(Schema, frozen=True, kw_only=True):
    """What is known and not done yet: paths to scan, changes to publish, chunks to fetch, changes to apply."""

    scan: int = 0
    publish: int = 0
    fetch: int = 0
    apply: int = 0


class FolderState(Schema, frozen=True, kw_only=True):
    """One folder. `not_durable` counts versions that too few relays have acknowledged and that somebody can still bring
    there, `not_kept` those that no relay has and nobody brings any more; `held` changes stopped by a safeguard.
    """

    id: str
    name: str
    path: str
    state: FolderPhase
    files: int
    bytes: int
    pending: Pending
    not_durable: int = 0
    not_kept: int = 0
    conflicts: int = 0
    held: int = 0
    versions: int = 0
    role: Role = "owner"
    relayed: bool = False  # a relay or backup keeps this folder, so "durable" means something
    freshness_unverified: bool = False  # it was recovered, and nobody but the relay said that this is its newest
    done_bytes: int = 0
    total_bytes: int = 0
    rate_bytes_s: float = 0.0
    eta_s: float | None = None


class Saved(Schema, frozen=True, kw_only=True):
    """Bytes that did not travel, since the agent started."""

    dedup_bytes: int = 0
    delta_bytes: int = 0


class Status(Answer, frozen=True, kw_only=True):
    """Everything at a glance. `idle`: nothing to scan, send, fetch, apply or acknowledge that the agent knows of."""

    idle: bool
    device: DeviceName
    version: str
    uptime_s: float = 0.0
    health: list[HealthItem] = []
    relays: list[RelayState] = []
    devices: list[DeviceState] = []
    folders: list[FolderState] = []
    shared_files: list[SharedFile] = []
    backups: list[KeptFolder] = []
    saved: Saved = Saved()


class FolderList(Answer, frozen=True, kw_only=True):
    """Every folder of this device."""

    folders: list[FolderState]


class DeviceList(Answer, frozen=True, kw_only=True):
    """Every other device this one shares a folder with."""

    devices: list[DeviceState]


class LinkBytes(Schema, frozen=True, kw_only=True):
    """Bytes on the wire over links of one kind, framing and encryption included."""

    received: int = 0
    sent: int = 0


class Stats(Answer, frozen=True, kw_only=True):
    """Counters since the agent started.

    `links` has the keys lan, direct and relay. `content_bytes_fetched` counts plaintext bytes of chunks and lists that
    arrived and passed their check; `chunks_damaged` those that did not and were asked for again.
    """

    links: dict[str, LinkBytes]
    content_bytes_fetched: int = 0
    content_bytes_served: int = 0
    chunks_fetched: int = 0
    chunks_damaged: int = 0
    chunks_reused: int = 0
    entries_published: int = 0
    entries_received: int = 0
    saved: Saved = Saved()


# --- sharing -------------------------------------------------------------------------------------------------


class ShareRequest(Schema, frozen=True, kw_only=True):
    """Share the folder or file at the absolute `path`; `name` is the device the ticket is meant for, or empty."""

    path: str
    role: Role = "writer"
    expires_s: float = 600.0
    name: str = ""
    this_version: bool = False  # of one file: hand out what it is now, and no later version


class ShareResult(Answer, frozen=True, kw_only=True):
    """An invitation: `ticket` until `expires`, `code` until `code_expires`, once. `id` is what `revoke` takes.

    `addresses` are where this device listens, for `join CODE --address`.
    """

    folder: str
    code: str
    ticket: str
    expires: str
    code_expires: str = ""
    id: str = ""
    addresses: list[str] = []
    is_file: bool = False  # one file, which the bearer gets without joining its folder
    stored: bool = False  # of one file: a relay has it, so it can be fetched while this device is off


class Invitation(Schema, frozen=True, kw_only=True):
    """An invitation that still admits somebody. `code` tells of its short code, if this agent told one."""

    id: str
    folder: str
    role: Role
    expires: str
    code: CodePhase = "none"


class InvitationList(Answer, frozen=True, kw_only=True):
    """Open invitations, whoever made them."""

    invitations: list[Invitation]


class RevokeRequest(Schema, frozen=True, kw_only=True):
    """Take back the invitation whose id begins with `id`, all of the folder's if it is empty."""

    folder: str
    id: str = ""


class RevokeResult(Answer, frozen=True, kw_only=True):
    """The ids of invitations that admit nobody any more."""

    revoked: list[str]


class JoinRequest(Schema, frozen=True, kw_only=True):
    """Join with a ticket or code. `path` is absolute, or empty for the folder's name in the home directory.

    `address` is where the device that told the code listens, HOST:PORT, or empty to look for it.
    """

    ticket: str
    path: str = ""
    address: str = ""


class JoinResult(Answer, frozen=True, kw_only=True):
    """A folder that was joined and has its first complete copy of the inviter's tree, unless it is kept as a backup."""

    folder: str
    name: str
    path: str
    device: str
    route: LinkPath
    files: int
    bytes: int
    is_file: bool = False  # `path` is one file that was handed over, not a folder
    is_backup: bool = False  # what `path` holds is sealed, and members bring it from now on


class Member(Schema, frozen=True, kw_only=True):
    """One member of a folder; `self` marks this device. `person` is whose it says it is, empty if it does not.

    `since` is when this device learnt of it, `seen` when it last had a link to it; null: not known, never.
    """

    id: str
    name: str
    role: Role
    since: str | None = None
    self: bool = False
    person: str = ""
    seen: str | None = None
    fingerprint: str = ""
    invited_by: str = ""
    kept_offline: bool = False  # a recovery sheet: it is never seen, and nobody waits for it


class FormerMember(Schema, frozen=True, kw_only=True):
    """A device that is no member any more: it left by itself, or was removed `by` an owner's device."""

    id: str
    name: str
    person: str
    role: Role
    left: bool
    by: str
    when: str | None = None


class MemberList(Answer, frozen=True, kw_only=True):
    """The members of one folder, and who was one."""

    folder: str
    members: list[Member]
    former: list[FormerMember] = []


class SafetyNumber(Answer, frozen=True, kw_only=True):
    """Sixty digits in groups of five; both devices show the same ones, or somebody is between them."""

    folder: str
    device: str
    name: str
    person: str
    number: str
    fingerprint: str
    own_fingerprint: str


class RoleRequest(Schema, frozen=True, kw_only=True):
    """Give the member `device` (its id or name) of `folder` another role."""

    folder: str
    device: str
    role: Role


class RoleResult(Answer, frozen=True, kw_only=True):
    """A member with its new role. `relays_waiting` are addresses of relays that do not know of it yet."""

    folder: str
    member: Member
    before: Role
    relays_waiting: list[str] = []


class RemovalRequest(Schema, frozen=True, kw_only=True):
    """Remove `who`, a device by id or name or all devices of a person; with `dry_run` only say what that means."""

    folder: str
    who: str
    dry_run: bool = False


class UnshareRequest(Schema, frozen=True, kw_only=True):
    """End the sharing of `folder` with everybody else; with `dry_run` only say what that means."""

    folder: str
    dry_run: bool = False


class ExposedVersion(Schema, frozen=True, kw_only=True):
    """One version that a device could have fetched."""

    id: str
    path: str
    time: str
    device: str
    size: int


class Exposure(Schema, frozen=True, kw_only=True):
    """What a device could have fetched while it was a member: versions, the contents among them, and their bytes."""

    versions: int = 0
    contents: int = 0
    bytes: int = 0
    listed: list[ExposedVersion] = []


class RemovalResult(Answer, frozen=True, kw_only=True):
    """Who was removed, or would be. Open invitations end with it, since a device that is gone may know of one.

    `relays_waiting` are addresses of relays that do not know of it yet: they go on serving the device until they do.
    """

    folder: str
    removed: list[Member]
    dry_run: bool
    exposure: Exposure
    closed_invitations: int = 0
    relays_waiting: list[str] = []


class LeaveResult(Answer, frozen=True, kw_only=True):
    """The folder is forgotten here. `told`: a relay or another member knows of it.

    `was_backup`: what this device kept of it, sealed, is removed, unless it is `left` at a place that was not there.
    """

    done: bool = True
    told: bool = True
    was_backup: bool = False
    left: str = ""


class FolderRequest(Schema, frozen=True, kw_only=True):
    """Names a folder by name, id or path; empty means every folder."""

    folder: str = ""


# --- history -------------------------------------------------------------------------------------------------


class Version(Schema, frozen=True, kw_only=True):
    """One version of one path. `n` counts from 1, the oldest; `id` names the version for ever."""

    n: int
    id: str
    path: str
    time: str
    device: str
    size: int
    change: ChangeKind
    kept: str = ""  # where its content is: here, a device, a relay, or empty: not kept


class VersionList(Answer, frozen=True, kw_only=True):
    """Versions, newest first."""

    versions: list[Version]


class SnapshotRequest(Schema, frozen=True, kw_only=True):
    """Call a folder as it is now `name` (`folder` empty: each that this device may write); `remove`: no longer."""

    name: str
    folder: str = ""
    remove: bool = False


class Snapshot(Schema, frozen=True, kw_only=True):
    """A name for a folder as it was when `device` gave it."""

    folder: str
    name: str
    time: str
    device: str


class SnapshotList(Answer, frozen=True, kw_only=True):
    """The snapshots of folders, newest first in each."""

    snapshots: list[Snapshot]


class DirectoryEntry(Schema, frozen=True, kw_only=True):
    """What was in a directory under one name. `size` in bytes, 0 if it is no file."""

    name: str
    kind: EntryKind
    size: int
    executable: bool
    modified: str


class Directory(Answer, frozen=True, kw_only=True):
    """A directory as it was, by name. `more`: ask again with the last name as `after`."""

    path: str
    entries: list[DirectoryEntry]
    more: bool


class Differences(Answer, frozen=True, kw_only=True):
    """Paths that differ between two points, the first of each; how many there are is in `counts`, in the same order."""

    path: str
    created: list[str]
    changed: list[str]
    removed: list[str]
    counts: list[int]


class ConflictCopy(Schema, frozen=True, kw_only=True):
    """One of the other versions of a path in conflict."""

    path: str
    device: str
    time: str
    size: int


class Conflict(Schema, frozen=True, kw_only=True):
    """A path with more than one version. `base` is the id of the version that both came from, if known.

    `path` and those of the copies are below `root`, the path of the folder called `folder`. `device`, `time` and `size`
    are those of the version that lies at the path; empty and 0 if nothing does.
    """

    path: str
    copies: list[ConflictCopy]
    base: str | None = None
    folder: str = ""
    root: str = ""
    device: str = ""
    time: str = ""
    size: int = 0


class ConflictList(Answer, frozen=True, kw_only=True):
    """Every path in conflict."""

    conflicts: list[Conflict]


class Why(Answer, frozen=True, kw_only=True):
    """Who changed a path, on what base, what it waits for and what would unblock it.

    `state` is one of in sync, conflict, waiting for content, waiting, blocked, lost, held, paused, ignored,
    not observed, not published, not durable, deleted, joining, error, unknown; `explanation` says it in short.
    """

    path: str
    state: str
    explanation: str = ""
    version: str | None = None
    device: str | None = None
    based_on: list[str] = []
    waits_for: str | None = None
    next: str | None = None


class ResolveRequest(Schema, frozen=True, kw_only=True):
    """End the conflict of the absolute `path`, of a file or of one of its copies.

    `mine` is what lies at the file's path, `theirs` the copy, `merged` both with their common base as text. With an
    absolute `to` what is merged is only written there, with markers where both changed the same lines.
    """

    path: str
    keep: Winner
    to: str = ""


class ResolveResult(Answer, frozen=True, kw_only=True):
    """A conflict that ended. `now` are absolute paths of what is there; `clashes` places stand between markers.

    What lost is kept on this device in `kept_in`, and in the history; each command of `undo` brings one version back.
    """

    path: str
    keep: Winner
    now: list[str]
    kept_in: str = ""
    undo: list[str] = []
    clashes: int = 0


class RestoreRequest(Schema, frozen=True, kw_only=True):
    """Bring back `version` (its number or id; empty: the newest before the present one) of the absolute `path`.

    Or, with `at`, an RFC 3339 time or the name of a snapshot, what lay at and below it then. `to` is an absolute
    directory to write into, where nothing of that name may be; empty restores in place, as a new version. `exact`, in
    place and with `at`, also removes what came since. `dry_run` only tells.
    """

    path: str
    version: str = ""
    to: str = ""
    at: str = ""
    exact: bool = False
    dry_run: bool = False


class Skipped(Schema, frozen=True, kw_only=True):
    """A path that was left as it is, and why."""

    path: str
    why: str


class RestoreResult(Answer, frozen=True, kw_only=True):
    """What was restored, and where it is now. `version` is empty for a whole time.

    Of `files` paths with `size` bytes in all, `unchanged` lay there so already and `not_restored` could not be; of
    those that were, or would be, written and of those that were not, the first are in `changed` and `skipped`. So are
    of the `removals` the first in `removed`.
    """

    path: str
    version: str
    restored_to: str
    size: int
    files: int = 1
    unchanged: int = 0
    changed: list[str] = []
    skipped: list[Skipped] = []
    not_restored: int = 0
    removals: int = 0
    removed: list[str] = []


class UndoRequest(Schema, frozen=True, kw_only=True):
    """Undo what `device` (a name or id, or a person; empty: everybody) did in `folder` (empty: all) after `since`.

    `since` is an RFC 3339 time. `dry_run` only tells.
    """

    since: str
    device: str = ""
    folder: str = ""
    dry_run: bool = False


class Undone(Schema, frozen=True, kw_only=True):
    """What an undo did, or would do, to one folder.

    `restored` files with `size` bytes and `removals` were made so, `failed` were not; the first of each are in
    `changed`, `removed` and `skipped`. `built_on` are paths where somebody else worked on top of what was undone, and
    what became of them.
    """

    folder: str
    name: str
    restored: int
    size: int
    removals: int
    failed: int
    changed: list[str] = []
    removed: list[str] = []
    skipped: list[Skipped] = []
    built_on: list[Skipped] = []


class UndoResult(Answer, frozen=True, kw_only=True):
    """What an undo did, folder by folder."""

    folders: list[Undone]


# --- safeguards ----------------------------------------------------------------------------------------------


class HeldChange(Schema, frozen=True, kw_only=True):
    """A mass change that waits for its user. `side` publish: done here, others are not told; apply: not done here.

    `device` did it, empty if that is not known. `count` of `total` files are concerned, `examples` are some of their
    paths in the folder; `passed` more of the same device went before the brake was on.
    """

    id: str
    folder: str
    side: HeldSide
    change: HeldKind
    why: str
    device: str
    count: int
    total: int
    passed: int = 0
    examples: list[str] = []
    since: str


class QuarantinedFile(Schema, frozen=True, kw_only=True):
    """A file as a device wrote it last beyond its end; `path` is in the folder."""

    path: str
    size: int


class Quarantine(Schema, frozen=True, kw_only=True):
    """What a device that was removed, or may not write any more, wrote after its last accepted entry.

    It changes nothing. `others` counts removals, renames and what cannot be read.
    """

    folder: str
    device: str
    name: str
    entries: int
    files: list[QuarantinedFile] = []
    others: int = 0


class HeldList(Answer, frozen=True, kw_only=True):
    """Everything that is held, oldest first within a folder, and what is in quarantine."""

    held: list[HeldChange]
    quarantined: list[Quarantine] = []


class AdoptRequest(Schema, frozen=True, kw_only=True):
    """Take over what `device` (id or name) wrote beyond its end; with `dismiss` only stop to list it."""

    folder: str
    device: str
    dry_run: bool = False
    dismiss: bool = False


class AdoptResult(Answer, frozen=True, kw_only=True):
    """What was brought below the new directory `path`; the content of `missing` is not to be had now."""

    folder: str
    device: str
    name: str
    path: str = ""
    files: list[str] = []
    missing: list[str] = []
    dry_run: bool = False


class HoldRequest(Schema, frozen=True, kw_only=True):
    """Names a held change by the id that `held` shows."""

    id: str


class HoldResult(Answer, frozen=True, kw_only=True):
    """A decision that was carried out. `kept_in` is where files lie that it replaces on this device, or empty.

    `lost` are paths in the folder that a rejection could not bring back, because nobody who could be asked has them.
    """

    id: str
    decision: Decision
    count: int
    kept_in: str = ""
    lost: list[str] = []


# --- waiting, jobs, health -----------------------------------------------------------------------------------


class WaitRequest(Schema, frozen=True, kw_only=True):
    """Wait until a folder (empty: all) is in sync, and with `durable` has a relay receipt for every version."""

    folder: str = ""
    durable: bool = False
    timeout_s: float = 60.0


class WaitResult(Answer, frozen=True, kw_only=True):
    """The wait ended because it is so."""

    idle: bool
    waited_s: float


class Problem(Schema, frozen=True, kw_only=True):
    """An error as problem+json (RFC 9457). `code` is the error's class, `next` the command to type."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    exit_code: int
    next: str = ""
    why: str = ""
    device: str = ""
    folder: str = ""
    path: str = ""


class PageAddress(Answer, frozen=True, kw_only=True):
    """Where the local page is: `url` opens it once, within `expires_s` seconds."""

    url: str
    expires_s: float


class Job(Answer, frozen=True, kw_only=True):
    """Work that outlives its request. `done` and `total` are bytes; `rate` bytes per second.

    `result` is the answer of the operation once `state` is done, `problem` its error once it is failed.
    """

    id: str
    kind: str
    state: JobPhase
    done: int = 0
    total: int = 0
    rate: float = 0.0
    eta_s: float | None = None
    result: dict[str, Any] | None = None
    problem: Problem | None = None


class Check(Schema, frozen=True, kw_only=True):
    """One thing that was examined."""

    what: str
    ok: bool
    why: str = ""
    next: str = ""


class DoctorReport(Answer, frozen=True, kw_only=True):
    """Every check of the machine and the agent."""

    checks: list[Check]


class Done(Answer, frozen=True, kw_only=True):
    """It is done, and there is nothing to tell."""

    done: bool = True


class Stopping(Answer, frozen=True, kw_only=True):
    """The agent ends; `pid` is the process to wait for."""

    pid: int
