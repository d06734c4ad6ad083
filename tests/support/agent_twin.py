"""A daemon in memory: `Operations` over a few values, for tests of everything that talks to the local API."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from meshsync.agent import api_recovery, api_retention
from meshsync.agent import api_schema as api
from meshsync.agent.events import EventRing
from meshsync.agent.home import Home
from meshsync.agent.local_api import LocalApi
from meshsync.agent.operations import Operations, Progress
from meshsync.content.recovery_sheet import sheet_words
from meshsync.errors import ChunkMismatch, ConfigError, NotFound, PeerTimeout, RoleForbids, TextsClash, TicketInvalid
from meshsync.runtime import SystemRuntime

TIME = "2026-01-31T12:00:00.000000Z"
TICKET = "mesh1-ticket"
FOLDER = api.FolderState(
    id="f0" * 32,
    name="Docs",
    path="/home/ann/Docs",
    state="in sync",
    files=312,
    bytes=1_288_490_189,
    pending=api.Pending(),
    relayed=True,
    versions=41,
)
DESK = api.DeviceState(id="d1" * 32, name="desk", path="lan", rtt_ms=0.4, seen=TIME, address="192.0.2.7")
PHONE = api.DeviceState(id="d2" * 32, name="phone", path="offline", seen=None)
VERSIONS = [
    api.Version(n=2, id="b" * 88, path="plan.txt", time=TIME, device="desk", size=7, change="edited", kept="here"),
    api.Version(n=1, id="a" * 88, path="plan.txt", time=TIME, device="laptop", size=5, change="created", kept="relay"),
]
HELD = api.HeldChange(
    id="3f9a01",
    folder="Docs",
    side="publish",
    change="deletion",
    why="unusually many files were deleted",
    device="laptop",
    count=211,
    total=312,
    passed=40,
    examples=["plan.txt"],
    since=TIME,
)
INVITATION = api.Invitation(id="3f9a01" + "c" * 58, folder="Docs", role="writer", expires=TIME, code="open")
MEMBER = api.Member(
    id="d1" * 32, name="desk", role="writer", person="Ben", since=TIME, seen=TIME, fingerprint="d1d1 " * 15 + "d1d1"
)
FORMER = api.FormerMember(id="d2" * 32, name="phone", person="Rob", role="writer", left=False, by="laptop", when=TIME)
APART = api.Quarantine(
    folder="Docs", device=FORMER.id, name="phone", entries=2, files=[api.QuarantinedFile(path="plan.txt", size=7)]
)
RETENTION = api_retention.Retention(
    folder=FOLDER.id,
    name=FOLDER.name,
    keeps=api_retention.Times(all=30 * 86400, daily=365 * 86400, monthly=None, floor=14 * 86400),
    may_set=True,
    waiting=[
        api_retention.Retiring(relay="relay nas", device="d\x1b[2Jsk", versions=12, since="2026-01-31T12:00:00+00:00")
    ],
)
SNAPSHOT = api.Snapshot(folder="Docs", name="first", time=TIME, device="desk")
ENTRIES = [
    api.DirectoryEntry(name="photos", kind="directory", size=0, executable=False, modified=TIME),
    api.DirectoryEntry(name="plan.txt", kind="file", size=7, executable=False, modified=TIME),
]
CONTENTS = {"1": b"first", "2": b"seconds", "": b"seconds"}


class AgentTwin:
    """One folder `Docs` with one file `plan.txt`, in sync with a desk and not with a phone."""

    def __init__(self) -> None:
        self.events = EventRing()
        self.folder = FOLDER
        self.conflict_list: list[api.Conflict] = []
        self.skipped: list[api.Skipped] = []
        self.invitation_list = [INVITATION]
        self.sheets = 0
        self.held_list: list[api.HeldChange] = []
        self.apart_list: list[api.Quarantine] = []
        self.name = "laptop"
        self.calls: list[tuple[str, object]] = []
        self.held = asyncio.Event()
        self.stopped = asyncio.Event()
        self.ended = threading.Event()

    async def status(self) -> api.Status:
        return api.Status(
            idle=self.folder.state == "in sync",
            device=api.DeviceName(id="d0" * 32, name=self.name),
            version="0.1.0",
            uptime_s=3 * 3600.0,
            relays=[api.RelayState(address="relay.example", connected=True, rtt_ms=31.0)],
            devices=[DESK, PHONE],
            folders=[self.folder],
        )

    async def folders(self) -> api.FolderList:
        return api.FolderList(folders=[self.folder])

    async def devices(self) -> api.DeviceList:
        return api.DeviceList(devices=[DESK, PHONE])

    async def stats(self) -> api.Stats:
        return api.Stats(links={"lan": api.LinkBytes(received=10, sent=2048)}, chunks_fetched=3)

    async def share(self, request: api.ShareRequest, progress: Progress) -> api.ShareResult:
        self.calls.append(("share", request))
        if request.role == "owner":
            raise RoleForbids(
                "only an owner may invite", device="laptop", folder="Docs", next_step="meshsync members Docs"
            )
        progress(50, 100)
        return api.ShareResult(folder=FOLDER.id, code="7-crossover-clockwork-sunset", ticket=TICKET, expires=TIME)

    async def invitations(self, folder: str) -> api.InvitationList:
        if folder not in ("", "Docs"):
            raise NotFound("there is no such folder", folder=folder, next_step="meshsync status")
        return api.InvitationList(invitations=self.invitation_list)

    async def revoke(self, request: api.RevokeRequest) -> api.RevokeResult:
        self.calls.append(("revoke", request))
        gone = [each for each in self.invitation_list if each.id.startswith(request.id)]
        if not gone:
            raise NotFound("no open invitation has this id", folder="Docs", next_step="meshsync invitations Docs")
        self.invitation_list = [each for each in self.invitation_list if each not in gone]
        return api.RevokeResult(revoked=[each.id for each in gone])

    async def join(self, request: api.JoinRequest, progress: Progress) -> api.JoinResult:
        self.calls.append(("join", request))
        if request.ticket != TICKET:
            raise TicketInvalid("the ticket has expired", next_step="meshsync share PATH")
        progress(100, 100)
        path = request.path or "/home/ann/Docs"
        return api.JoinResult(
            folder=FOLDER.id, name="Docs", path=path, device="laptop", route="lan", files=312, bytes=FOLDER.bytes
        )

    async def recovery(self) -> api_recovery.RecoveryStatus:
        state: api_recovery.SheetState = "ready" if self.sheets else "no sheet"
        listed = [api_recovery.SheetFolder(id=FOLDER.id, name=FOLDER.name, state=state)]
        return api_recovery.RecoveryStatus(made=TIME if self.sheets else None, folders=listed)

    async def make_sheet(self, request: api_recovery.SheetRequest) -> api_recovery.Sheet:
        self.calls.append(("make_sheet", request))
        if self.sheets and not request.new:
            raise ConfigError("this device has a recovery sheet", next_step="meshsync recovery sheet --new")
        self.sheets += 1
        words = list(sheet_words(bytes([self.sheets]) * 32))
        return api_recovery.Sheet(words=words, fingerprint="5e5e", folders=(await self.recovery()).folders)

    async def recover(self, request: api_recovery.RecoverRequest, progress: Progress) -> api_recovery.Recovered:
        self.calls.append(("recover", request))
        path = f"{request.path}/Docs"
        back = api_recovery.RecoveredFolder(
            id=FOLDER.id, name="Docs", path=path, files=312, bytes=7, freshness_unverified=True
        )
        return api_recovery.Recovered(folders=[back])

    async def members(self, folder: str) -> api.MemberList:
        if folder != "Docs":
            raise NotFound("there is no such folder", folder=folder, next_step="meshsync status")
        own = api.Member(id="d0" * 32, name="laptop", role="owner", self=True, person="Anna", fingerprint="d0d0 d0d0")
        return api.MemberList(folder=FOLDER.id, members=[own, MEMBER], former=[FORMER])

    async def verify(self, folder: str, device: str) -> api.SafetyNumber:
        return api.SafetyNumber(
            folder=FOLDER.id,
            device=MEMBER.id,
            name=device,
            person="",
            number=" ".join(f"{group:05}" for group in range(12)),
            fingerprint="d1d1",
            own_fingerprint="d0d0",
        )

    async def change_role(self, request: api.RoleRequest) -> api.RoleResult:
        self.calls.append(("role", request))
        return api.RoleResult(folder=FOLDER.id, member=MEMBER, before="reader", relays_waiting=["relay.example:4433"])

    async def remove(self, request: api.RemovalRequest) -> api.RemovalResult:
        self.calls.append(("remove", request))
        if request.who == "nobody":
            raise NotFound("there is no such device or person", device=request.who, folder="Docs")
        seen = api.Exposure(versions=41, contents=12, bytes=1_288_490_189)
        return api.RemovalResult(
            folder=FOLDER.id, removed=[MEMBER], dry_run=request.dry_run, exposure=seen, closed_invitations=1
        )

    async def unshare(self, request: api.UnshareRequest) -> api.RemovalResult:
        self.calls.append(("unshare", request))
        return api.RemovalResult(folder=FOLDER.id, removed=[], dry_run=request.dry_run, exposure=api.Exposure())

    async def adopt(self, request: api.AdoptRequest, progress: Progress) -> api.AdoptResult:
        self.calls.append(("adopt", request))
        path = "" if request.dry_run or request.dismiss else "/home/ann/Docs/From phone"
        files = [] if request.dismiss else ["plan.txt"]
        return api.AdoptResult(
            folder=FOLDER.id, device=FORMER.id, name="phone", path=path, files=files, dry_run=request.dry_run
        )

    async def leave(self, folder: str) -> api.LeaveResult:
        self.calls.append(("leave", folder))
        return api.LeaveResult(told=False)

    async def log(self, folder: str, path: str) -> api.VersionList:
        self.calls.append(("log", (folder, path)))
        return api.VersionList(versions=VERSIONS)

    async def versions(self, folder: str, deleted: bool) -> api.VersionList:
        return api.VersionList(versions=[] if deleted else VERSIONS)

    async def find(self, name: str, folder: str, deleted: bool) -> api.VersionList:
        self.calls.append(("find", (name, folder, deleted)))
        return api.VersionList(versions=VERSIONS[:1])

    async def snapshot(self, request: api.SnapshotRequest) -> api.SnapshotList:
        self.calls.append(("snapshot", request))
        return api.SnapshotList(snapshots=[] if request.remove else [SNAPSHOT])

    async def snapshots(self, folder: str) -> api.SnapshotList:
        self.calls.append(("snapshots", folder))
        return api.SnapshotList(snapshots=[SNAPSHOT])

    async def retention(self, folder: str) -> api_retention.RetentionList:
        self.calls.append(("retention", folder))
        return api_retention.RetentionList(folders=[RETENTION])

    async def set_retention(self, request: api_retention.RetentionRequest) -> api_retention.RetentionList:
        self.calls.append(("set_retention", request))
        return api_retention.RetentionList(folders=[msgspec.structs.replace(RETENTION, keeps=request.keeps)])

    async def collect(self, request: api_retention.CollectRequest) -> api_retention.CollectResult:
        self.calls.append(("collect", request))
        told = [
            api_retention.Let(relay="relay nas", versions=3),
            api_retention.Let(relay="relay far", problem="it cannot be reached now; it is told when it can"),
        ]
        return api_retention.CollectResult(
            folders=[
                api_retention.Collected(
                    folder=FOLDER.id,
                    name=FOLDER.name,
                    versions=3,
                    files=2,
                    size=3 << 20,
                    oldest="2026-01-31T12:00:00+00:00",
                    newest="2026-02-28T12:00:00+00:00",
                    paths=["a\x1b[2J", "b"],
                    relays=[] if request.dry_run else told,
                )
            ]
        )

    async def directory(self, path: str, at: str, after: str) -> api.Directory:
        self.calls.append(("directory", (path, at, after)))
        entries = [entry for entry in ENTRIES if entry.name > after]
        return api.Directory(path=path, entries=entries[:1], more=len(entries) > 1)

    async def compare(self, path: str, since: str, until: str) -> api.Differences:
        self.calls.append(("compare", (path, since, until)))
        return api.Differences(path=path, created=["a\x1b[2J"], changed=[], removed=["b"], counts=[1, 0, 2])

    async def undo(self, request: api.UndoRequest, progress: Progress) -> api.UndoResult:
        self.calls.append(("undo", request))
        done = api.Undone(
            folder="f" * 64,
            name="Docs",
            restored=2,
            size=7,
            removals=1,
            failed=len(self.skipped),
            changed=["plan.txt"],
            removed=["PAY\x1b[2J"],
            skipped=self.skipped,
            built_on=[api.Skipped(path="b", why="changed by laptop afterwards: it stays as it is")],
        )
        return api.UndoResult(folders=[done])

    async def cat(self, path: str, version: str, at: str) -> AsyncIterator[bytes]:
        self.calls.append(("cat", (path, version, at) if at else (path, version)))
        if version not in CONTENTS:
            raise NotFound("there is no such version", path=path, next_step=f"meshsync log {path}")
        yield CONTENTS[version][:3]
        yield CONTENTS[version][3:]

    async def restore(self, request: api.RestoreRequest, progress: Progress) -> api.RestoreResult:
        self.calls.append(("restore", request))
        if request.version == "9":
            raise ChunkMismatch("a chunk of this version is damaged", path=request.path)
        if self.skipped:
            return api.RestoreResult(
                path=request.path,
                version="",
                restored_to=request.path,
                size=5,
                files=3,
                unchanged=1,
                skipped=self.skipped,
                not_restored=len(self.skipped),
            )
        changed = [Path(request.path).name]
        to = request.to or request.path
        return api.RestoreResult(path=request.path, version="a" * 88, restored_to=to, size=5, changed=changed)

    async def conflicts(self, folder: str) -> api.ConflictList:
        return api.ConflictList(conflicts=self.conflict_list)

    async def resolve(self, request: api.ResolveRequest, progress: Progress) -> api.ResolveResult:
        self.calls.append(("resolve", request))
        if not self.conflict_list:
            raise NotFound("the path is not in conflict", path=request.path, next_step="meshsync conflicts")
        if request.keep == "merged":
            if not request.to:
                raise TextsClash("both sides changed the same lines", path=request.path, next_step="Add --to FILE")
            return api.ResolveResult(path=request.path, keep=request.keep, now=[request.to], clashes=2)
        self.conflict_list.clear()
        return api.ResolveResult(
            path=request.path,
            keep=request.keep,
            now=[request.path],
            kept_in="/home/ann/Docs/.meshsync/kept/3f9a01",
            undo=[f"meshsync restore {request.path} --version {'a' * 88}"],
        )

    async def held_changes(self, folder: str) -> api.HeldList:
        return api.HeldList(held=self.held_list, quarantined=self.apart_list)

    async def release(self, request: api.HoldRequest) -> api.HoldResult:
        return self._decide(request, "released", "")

    async def reject(self, request: api.HoldRequest) -> api.HoldResult:
        return self._decide(request, "rejected", "/home/ann/Docs/.meshsync/kept/3f9a01-0")

    def _decide(self, request: api.HoldRequest, decision: api.Decision, kept_in: str) -> api.HoldResult:
        self.calls.append((decision, request.id))
        held = next((held for held in self.held_list if held.id == request.id), None)
        if held is None:
            raise NotFound(f"nothing is held under {request.id}", next_step="meshsync held")
        self.held_list.remove(held)
        return api.HoldResult(id=held.id, decision=decision, count=held.count, kept_in=kept_in)

    async def why(self, path: str) -> api.Why:
        return api.Why(
            path=path,
            state="waiting for content",
            explanation="Its new content, by desk, is not here yet.",
            waits_for="desk",
            next="Start meshsync on desk",
        )

    async def pause(self, folder: str) -> None:
        self.calls.append(("pause", folder))

    async def resume(self, folder: str) -> None:
        self.calls.append(("resume", folder))

    async def rescan(self, folder: str) -> None:
        self.calls.append(("rescan", folder))

    async def wait(self, request: api.WaitRequest) -> api.WaitResult:
        self.calls.append(("wait", request))
        if request.folder == "held":
            await self.held.wait()
        if request.timeout_s == 0:
            raise PeerTimeout("not in sync after 0 s", next_step="meshsync status")
        return api.WaitResult(idle=True, waited_s=0.0)

    async def doctor(self) -> api.DoctorReport:
        return api.DoctorReport(checks=[api.Check(what="relay answers", ok=True)])

    async def stop(self) -> None:
        self.stopped.set()
        self.ended.set()


def keeps_the_protocol(twin: AgentTwin) -> Operations:
    """Let the type checker hold the twin to the Protocol."""
    return twin


@contextlib.contextmanager
def serving(home: Path, twin: AgentTwin | None = None) -> Iterator[AgentTwin]:
    """Serve a twin on the socket of `home` from a thread with its own loop, as the daemon's process would."""
    ready, loops, made = threading.Event(), [], []

    async def serve() -> None:
        agent = twin or AgentTwin()
        agent.held, agent.stopped = asyncio.Event(), asyncio.Event()
        runtime = SystemRuntime(threads=1)
        local_api = LocalApi(agent, agent.events, runtime)
        await local_api.start(Home(home).socket)
        loops.append((asyncio.get_running_loop(), agent.stopped))
        made.append(agent)
        ready.set()
        await agent.stopped.wait()
        await local_api.stop()
        runtime.close()

    Home(home).create()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield made[0]
    finally:
        loop, stopped = loops[0]
        with contextlib.suppress(RuntimeError):  # a test may have stopped it already
            loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        assert not thread.is_alive()
