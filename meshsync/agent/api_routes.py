"""The routes of the local API as one table: path, request, answer, handler.

Invariant: the server and the OpenAPI file are both made from `ROUTES` and nothing else.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

import msgspec

from meshsync.agent import api_recovery, api_retention
from meshsync.agent import api_schema as api
from meshsync.agent.jobs import Jobs
from meshsync.agent.operations import Operations, Progress
from meshsync.content.code import looks_like_code, parse_code
from meshsync.content.recovery_sheet import parse_sheet
from meshsync.errors import ConfigError
from meshsync.limits import EXPIRES_S_MAX, JOB_WAIT_S_MAX, WAIT_S_MAX
from meshsync.wire.relay_address import parse_relay_address

S = TypeVar("S", bound=api.Schema)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, decoded: `path` and `query` parameters as text, and the body as the route's request type."""

    operations: Operations
    jobs: Jobs
    path: dict[str, str]
    query: dict[str, str]
    body: api.Schema | None

    def request(self, kind: type[S]) -> S:
        """Return the body, which the server has decoded as `kind`."""
        assert isinstance(self.body, kind), kind
        return self.body

    def folder(self) -> str:
        """Return the folder that the body names, empty for all."""
        return self.request(api.FolderRequest).folder


Handler = Callable[[Call], Awaitable[api.Schema]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API. With `result`, the answer is 202 and a job, whose result is of that type."""

    method: str
    path: str
    name: str
    summary: str
    answer: type[api.Schema]
    handler: Handler
    request: type[api.Schema] | None = None
    query: dict[str, str] = field(default_factory=dict)  # name: description
    result: type[api.Schema] | None = None

    @property
    def status(self) -> int:
        return 200 if self.result is None else 202


def number(text: str, name: str, low: float, high: float) -> float:
    """Return `text` as a number in [low, high]. Raises ConfigError."""
    try:
        value = float(text)
    except ValueError as error:
        raise ConfigError(f"{name} is not a number") from error
    return in_range(value, name, low, high)


def in_range(value: float, name: str, low: float, high: float) -> float:
    """Return `value` if it lies in [low, high]. Raises ConfigError."""
    if math.isnan(value) or not low <= value <= high:
        raise ConfigError(f"{name} must lie between {low:g} and {high:g}")
    return value


def absolute(path: str, name: str = "path", *, optional: bool = False) -> str:
    """Return `path` if it is absolute, or empty where that is allowed. Raises ConfigError."""
    if (optional and not path) or (PurePosixPath(path).is_absolute() and "\0" not in path):
        return path
    raise ConfigError(f"{name} must be an absolute path", path=path)


def _job(call: Call, kind: str, work: Callable[[Progress], Awaitable[api.Schema]]) -> api.Job:
    return call.jobs.start(kind, work)


async def _share(call: Call) -> api.Schema:
    request = call.request(api.ShareRequest)
    absolute(request.path)
    in_range(request.expires_s, "expires_s", 1.0, EXPIRES_S_MAX)
    return _job(call, "share", lambda progress: call.operations.share(request, progress))


async def _join(call: Call) -> api.Schema:
    request = call.request(api.JoinRequest)
    absolute(request.path, optional=True)
    if looks_like_code(request.ticket):
        parse_code(request.ticket)  # a mistyped code is told at once
    return _job(call, "join", lambda progress: call.operations.join(request, progress))


async def _make_sheet(call: Call) -> api.Schema:
    return await call.operations.make_sheet(call.request(api_recovery.SheetRequest))


async def _recover(call: Call) -> api.Schema:
    request = call.request(api_recovery.RecoverRequest)
    absolute(request.path)
    parse_sheet(request.words)  # mistyped words are told at once
    parse_relay_address(request.relay)
    return _job(call, "recover", lambda progress: call.operations.recover(request, progress))


async def _restore(call: Call) -> api.Schema:
    request = call.request(api.RestoreRequest)
    absolute(request.path)
    absolute(request.to, "to", optional=True)
    return _job(call, "restore", lambda progress: call.operations.restore(request, progress))


async def _undo(call: Call) -> api.Schema:
    request = call.request(api.UndoRequest)
    return _job(call, "undo", lambda progress: call.operations.undo(request, progress))


async def _resolve(call: Call) -> api.Schema:
    request = call.request(api.ResolveRequest)
    absolute(request.path)
    absolute(request.to, "to", optional=True)
    return _job(call, "resolve", lambda progress: call.operations.resolve(request, progress))


async def _release(call: Call) -> api.Schema:
    request = call.request(api.HoldRequest)
    return _job(call, "release", lambda progress: call.operations.release(request))


async def _reject(call: Call) -> api.Schema:
    request = call.request(api.HoldRequest)
    return _job(call, "reject", lambda progress: call.operations.reject(request))


async def _wait(call: Call) -> api.Schema:
    request = call.request(api.WaitRequest)
    in_range(request.timeout_s, "timeout_s", 0.0, WAIT_S_MAX)
    return _job(call, "wait", lambda progress: call.operations.wait(request))


async def _rescan(call: Call) -> api.Schema:
    async def work(progress: Progress) -> api.Schema:
        await call.operations.rescan(call.folder())
        return api.Done()

    return _job(call, "rescan", work)


async def _pause(call: Call) -> api.Schema:
    await call.operations.pause(call.folder())
    return api.Done()


async def _resume(call: Call) -> api.Schema:
    await call.operations.resume(call.folder())
    return api.Done()


async def _leave(call: Call) -> api.Schema:
    return await call.operations.leave(_one_folder(call.folder()))


async def _role(call: Call) -> api.Schema:
    request = call.request(api.RoleRequest)
    _one_folder(request.folder)
    return await call.operations.change_role(request)


async def _remove(call: Call) -> api.Schema:
    request = call.request(api.RemovalRequest)
    _one_folder(request.folder)
    return await call.operations.remove(request)


async def _unshare(call: Call) -> api.Schema:
    request = call.request(api.UnshareRequest)
    _one_folder(request.folder)
    return await call.operations.unshare(request)


async def _adopt(call: Call) -> api.Schema:
    request = call.request(api.AdoptRequest)
    _one_folder(request.folder)
    return _job(call, "adopt", lambda progress: call.operations.adopt(request, progress))


def _one_folder(folder: str) -> str:
    if not folder:
        raise ConfigError("name the folder", next_step="meshsync status")
    return folder


async def _revoke(call: Call) -> api.Schema:
    request = call.request(api.RevokeRequest)
    if not request.folder:
        raise ConfigError("name the folder of the invitation", next_step="meshsync invitations")
    return await call.operations.revoke(request)


async def _stop(call: Call) -> api.Schema:
    await call.operations.stop()
    return api.Stopping(pid=os.getpid())


async def _log(call: Call) -> api.Schema:
    path = absolute(call.query.get("path", ""), optional=True)
    return await call.operations.log(call.query.get("folder", ""), path)


def _is_deleted(call: Call) -> bool:
    deleted = call.query.get("deleted", "false")
    if deleted not in ("true", "false"):
        raise ConfigError("deleted is true or false")
    return deleted == "true"


async def _find(call: Call) -> api.Schema:
    name = call.query.get("name", "")
    if not name or "/" in name or "\0" in name:
        raise ConfigError("a name, or part of one, is needed", path=name, next_step="meshsync find NAME")
    return await call.operations.find(name, call.query.get("folder", ""), _is_deleted(call))


async def _snapshots(call: Call) -> api.Schema:
    return await call.operations.snapshots(call.query.get("folder", ""))


async def _snapshot(call: Call) -> api.Schema:
    request = call.request(api.SnapshotRequest)
    return _job(call, "snapshot", lambda progress: call.operations.snapshot(request))


async def _retention(call: Call) -> api.Schema:
    return await call.operations.retention(call.query.get("folder", ""))


async def _set_retention(call: Call) -> api.Schema:
    return await call.operations.set_retention(call.request(api_retention.RetentionRequest))


async def _collect(call: Call) -> api.Schema:
    request = call.request(api_retention.CollectRequest)
    return _job(call, "collect", lambda progress: call.operations.collect(request))


async def _directory(call: Call) -> api.Schema:
    path = absolute(call.query.get("path", ""))
    return await call.operations.directory(path, call.query.get("at", ""), call.query.get("after", ""))


async def _compare(call: Call) -> api.Schema:
    path, since = absolute(call.query.get("path", "")), call.query.get("since", "")
    if not since:
        raise ConfigError("since when?", path=path, next_step="Add since: a time, or the name of a snapshot.")
    return await call.operations.compare(path, since, call.query.get("until", ""))


async def _versions(call: Call) -> api.Schema:
    return await call.operations.versions(call.query.get("folder", ""), _is_deleted(call))


async def _get_job(call: Call) -> api.Schema:
    wait_s = number(call.query.get("wait_s", "0"), "wait_s", 0.0, JOB_WAIT_S_MAX)
    return await call.jobs.get(call.path["id"], wait_s)


_FOLDER = {"folder": "name, id or path of a folder; empty for all"}
_get: Callable[..., Route] = cast(Any, lambda *args, **more: Route("GET", *args, **more))
_post: Callable[..., Route] = cast(Any, lambda *args, **more: Route("POST", *args, **more))

ROUTES: tuple[Route, ...] = (
    _get("/status", "status", "Everything at a glance", api.Status, lambda c: c.operations.status()),
    _get("/folders", "folders", "The folders of this device", api.FolderList, lambda c: c.operations.folders()),
    _get("/devices", "devices", "The other devices", api.DeviceList, lambda c: c.operations.devices()),
    _get("/stats", "stats", "Counters since the agent started", api.Stats, lambda c: c.operations.stats()),
    _get("/doctor", "doctor", "Examine machine and agent", api.DoctorReport, lambda c: c.operations.doctor()),
    _get(
        "/members",
        "members",
        "The members of a folder",
        api.MemberList,
        lambda c: c.operations.members(c.query.get("folder", "")),
        query={"folder": "name, id or path of a folder"},
    ),
    _get(
        "/log",
        "log",
        "The versions of a path, or of a folder",
        api.VersionList,
        _log,
        query={"path": "absolute path of a file", **_FOLDER},
    ),
    _get(
        "/versions",
        "versions",
        "The versions of every path",
        api.VersionList,
        _versions,
        query={"deleted": "true: only paths that are gone now", **_FOLDER},
    ),
    _get("/snapshots", "snapshots", "The snapshots of folders", api.SnapshotList, _snapshots, query=_FOLDER),
    _get(
        "/retention",
        "retention",
        "How long folders keep versions",
        api_retention.RetentionList,
        _retention,
        query=_FOLDER,
    ),
    _get(
        "/directory",
        "directory",
        "What is or was in a directory",
        api.Directory,
        _directory,
        query={
            "path": "absolute path of a directory",
            "at": "a time or the name of a snapshot; empty: now",
            "after": "only later names than this one",
        },
    ),
    _get(
        "/differences",
        "differences",
        "What differs between two points",
        api.Differences,
        _compare,
        query={
            "path": "absolute path",
            "since": "a time or the name of a snapshot",
            "until": "a later one; empty: now",
        },
    ),
    _get(
        "/find",
        "find",
        "The newest version of each file of a name",
        api.VersionList,
        _find,
        query={
            "name": "part of a file's name, or a pattern with * ? [] for the whole of it",
            "deleted": "true: only files that are gone now",
            **_FOLDER,
        },
    ),
    _get(
        "/conflicts",
        "conflicts",
        "The paths in conflict",
        api.ConflictList,
        lambda c: c.operations.conflicts(c.query.get("folder", "")),
        query=_FOLDER,
    ),
    _get(
        "/held",
        "held",
        "The mass changes that wait for a decision",
        api.HeldList,
        lambda c: c.operations.held_changes(c.query.get("folder", "")),
        query=_FOLDER,
    ),
    _get(
        "/why",
        "why",
        "Explain the state of a path",
        api.Why,
        lambda c: c.operations.why(absolute(c.query.get("path", ""))),
        query={"path": "absolute path"},
    ),
    _get(
        "/invitations",
        "invitations",
        "The invitations that are open",
        api.InvitationList,
        lambda c: c.operations.invitations(c.query.get("folder", "")),
        query=_FOLDER,
    ),
    _post("/revocations", "revoke", "Take invitations back", api.RevokeResult, _revoke, request=api.RevokeRequest),
    _post("/shares", "share", "Invite a device", api.Job, _share, request=api.ShareRequest, result=api.ShareResult),
    _post(
        "/joins", "join", "Join with a ticket or code", api.Job, _join, request=api.JoinRequest, result=api.JoinResult
    ),
    _get(
        "/recovery",
        "recovery",
        "The folders that the recovery sheet brings back",
        api_recovery.RecoveryStatus,
        lambda c: c.operations.recovery(),
    ),
    _post(
        "/recovery-sheets",
        "make_sheet",
        "Make a recovery sheet",
        api_recovery.Sheet,
        _make_sheet,
        request=api_recovery.SheetRequest,
    ),
    _post(
        "/recoveries",
        "recover",
        "Bring folders back with a recovery sheet",
        api.Job,
        _recover,
        request=api_recovery.RecoverRequest,
        result=api_recovery.Recovered,
    ),
    _post(
        "/restores",
        "restore",
        "Bring an old version back",
        api.Job,
        _restore,
        request=api.RestoreRequest,
        result=api.RestoreResult,
    ),
    _post(
        "/snapshots",
        "snapshot",
        "Take a snapshot, or remove one",
        api.Job,
        _snapshot,
        request=api.SnapshotRequest,
        result=api.SnapshotList,
    ),
    _post(
        "/retention",
        "setRetention",
        "Set how long a folder keeps versions",
        api_retention.RetentionList,
        _set_retention,
        request=api_retention.RetentionRequest,
    ),
    _post(
        "/collections",
        "collect",
        "Let go of versions that are kept no longer",
        api.Job,
        _collect,
        request=api_retention.CollectRequest,
        result=api_retention.CollectResult,
    ),
    _post(
        "/undo",
        "undo",
        "Undo what one device, or everybody, did since a time",
        api.Job,
        _undo,
        request=api.UndoRequest,
        result=api.UndoResult,
    ),
    _post(
        "/resolutions",
        "resolve",
        "End a conflict",
        api.Job,
        _resolve,
        request=api.ResolveRequest,
        result=api.ResolveResult,
    ),
    _post(
        "/releases",
        "release",
        "Let a held change pass",
        api.Job,
        _release,
        request=api.HoldRequest,
        result=api.HoldResult,
    ),
    _post(
        "/rejections",
        "reject",
        "Undo a held change",
        api.Job,
        _reject,
        request=api.HoldRequest,
        result=api.HoldResult,
    ),
    _post(
        "/adoptions",
        "adopt",
        "Take over what is in quarantine",
        api.Job,
        _adopt,
        request=api.AdoptRequest,
        result=api.AdoptResult,
    ),
    _post("/waits", "wait", "Wait for in sync", api.Job, _wait, request=api.WaitRequest, result=api.WaitResult),
    _post("/rescan", "rescan", "Look at every path", api.Job, _rescan, request=api.FolderRequest, result=api.Done),
    _post("/pause", "pause", "Exchange nothing", api.Done, _pause, request=api.FolderRequest),
    _post("/resume", "resume", "End a pause", api.Done, _resume, request=api.FolderRequest),
    _get(
        "/safety-number",
        "verify",
        "The number to compare with another member",
        api.SafetyNumber,
        lambda c: c.operations.verify(c.query.get("folder", ""), c.query.get("device", "")),
        query={"device": "the other device's id or name", **_FOLDER},
    ),
    _post("/roles", "role", "Give a member another role", api.RoleResult, _role, request=api.RoleRequest),
    _post("/removals", "remove", "Remove a device", api.RemovalResult, _remove, request=api.RemovalRequest),
    _post("/unshares", "unshare", "End sharing", api.RemovalResult, _unshare, request=api.UnshareRequest),
    _post("/leaves", "leave", "Stop syncing a folder", api.LeaveResult, _leave, request=api.FolderRequest),
    _post("/stop", "stop", "End the agent", api.Stopping, _stop),
    _get(
        "/jobs/{id}",
        "job",
        "One job, after its end or a wait",
        api.Job,
        _get_job,
        query={"wait_s": f"seconds to wait for the job's end, at most {JOB_WAIT_S_MAX:g}"},
    ),
)


def decode_body(route: Route, body: bytes) -> api.Schema | None:
    """Return the body as the route's request type. Raises ConfigError, which names the field that is wrong."""
    if route.request is None:
        return None
    try:
        # The stdlib decoder keeps surrogate escapes, which carry bytes of names that are not UTF-8.
        return msgspec.convert(json.loads(body or b"{}"), route.request)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise ConfigError(f"the request body is not a {route.request.__name__}: {error}") from error
