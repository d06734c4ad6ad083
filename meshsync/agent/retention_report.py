"""Retention as users see and set it, and the look for what is kept no longer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

from meshsync.agent import api_retention as api
from meshsync.agent.collecting import LetGoAt
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.letting_go import LettingGo
from meshsync.agent.lives import Lived
from meshsync.agent.members_names import named
from meshsync.agent.observer import display
from meshsync.agent.status_report import time_text
from meshsync.agent.versions_report import directories_of, find_folder
from meshsync.errors import RoleForbids
from meshsync.ids import DeviceId, Dot, short
from meshsync.limits import LET_GO_WAIT_S, RESTORE_LISTED_MAX
from meshsync.metalog.membership_entry import SetPolicy
from meshsync.metalog.retention_policy import FOREVER, RetentionPolicy, open_policy, pack_policy
from meshsync.metalog.retire import open_retire


def retention(agent: Agent, folder: str) -> api.RetentionList:
    """Return the policy of one folder or of all. Blocking. Raises NotFound, FormatUnsupported."""
    return api.RetentionList(folders=[_retention(agent, each) for each in directories_of(agent, folder)])


async def set_retention(agent: Agent, request: api.RetentionRequest) -> api.RetentionList:
    """Set a folder's policy. Raises NotFound, RoleForbids, AccessError."""
    folder = find_folder(agent, request.folder)
    _check_owner(folder)
    data = pack_policy(_policy(request.keeps))

    def change() -> SetPolicy:
        before = folder.replica.membership.policy
        return SetPolicy(1 if before is None else before.number + 1, data)

    await folder.replica.propose(change)
    return await agent.runtime.in_thread(lambda: api.RetentionList(folders=[_retention(agent, folder)]))


async def collect(agent: Agent, request: api.CollectRequest) -> api.CollectResult:
    """Let go of what is kept no longer, or say what that is. See `Operations.collect`."""
    folders = directories_of(agent, request.folder)
    if not request.folder:
        folders = [each for each in folders if each.collecting.is_owner]
    if not request.dry_run:
        for folder in folders:
            _check_owner(folder)
    return api.CollectResult(folders=[await _collect(agent, folder, request.dry_run) for folder in folders])


async def _collect(agent: Agent, folder: Folder, dry_run: bool) -> api.Collected:
    everything = (await folder.collecting.over()).go
    there = await agent.runtime.in_thread(_still_there, folder, list(everything))
    over = [everything[name] for name in there]
    told = {} if dry_run else await _let_go(folder)
    ends = sorted(lived.stated.until_s for lived in over)
    return api.Collected(
        folder=folder.id.hex(),
        name=folder.name,
        versions=len(over),
        files=len({lived.path for lived in over}),
        size=sum(lived.content.size for lived in over),
        oldest=time_text(ends[0] * 1_000_000_000) if ends else "",
        newest=time_text(ends[-1] * 1_000_000_000) if ends else "",
        paths=_paths(over),
        relays=[_let(agent, relay, done) for relay, done in sorted(told.items())],
    )


def _still_there(folder: Folder, names: list[Dot]) -> list[Dot]:
    """Return those of the versions `names` that a keeper has and was not told to let go of. Blocking."""
    told: dict[DeviceId, set[bytes]] = {}
    for keeper in folder.replica.keepers:
        rows = folder.retired(keeper).rows.waiting(keeper)
        told[keeper] = {name for row in rows for name in open_retire(row.data, folder.id).dots}
    holders = folder.durability.holders(names)
    return [name for name in names if any(name not in told[keeper] for keeper in holders[name])]


def _paths(over: Collection[Lived]) -> list[str]:
    return sorted({display(lived.path) for lived in over})[:RESTORE_LISTED_MAX]


def _let(agent: Agent, relay: DeviceId, done: LetGoAt | None) -> api.Let:
    name = _keeper(agent, relay)
    if done is None:
        return api.Let(relay=name, problem="it cannot be reached now; it is told when it can")
    if done.problem is not None:
        return api.Let(relay=name, problem=done.problem.what)
    return api.Let(relay=name, versions=done.versions, taken_back=done.cancelled)


async def _let_go(folder: Folder) -> dict[DeviceId, LetGoAt | None]:
    """Have every relay told that is linked; None for those that are not, or did not answer in time."""
    collecting = folder.collecting
    linked = [relay for relay in folder.replica.keepers if relay in folder.linked_relays]
    count = collecting.finished.count
    collecting.ask()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LET_GO_WAIT_S):
            while not collecting.done.keys() >= set(linked):
                count = await collecting.finished.after(count)
    return {relay: collecting.done.get(relay) for relay in folder.replica.keepers}


def _keeper(agent: Agent, keeper: DeviceId) -> str:
    client = agent.relays.get(keeper)
    return f"backup {short(keeper)}" if client is None else f"relay {client.address.host}"


def _check_owner(folder: Folder) -> None:
    if not folder.collecting.is_owner:
        raise RoleForbids(
            "only an owner decides how long versions are kept",
            folder=folder.name,
            next_step=f"Owners: meshsync members {folder.name}",
        )


def _retention(agent: Agent, folder: Folder) -> api.Retention:
    policy = open_policy(folder.replica.membership.policy)
    return api.Retention(
        folder=folder.id.hex(),
        name=folder.name,
        keeps=api.Times(
            all=_shown(policy.all_s),
            hourly=_shown(policy.hourly_s),
            daily=_shown(policy.daily_s),
            weekly=_shown(policy.weekly_s),
            monthly=_shown(policy.monthly_s),
            floor=policy.floor_s,
        ),
        may_set=folder.collecting.is_owner,
        waiting=[one for relay in folder.replica.keepers for one in _waiting(agent, folder, relay)],
    )


def _waiting(agent: Agent, folder: Folder, relay: DeviceId) -> list[api.Retiring]:
    found = []
    dots = LettingGo(relay, folder.replica, folder.relay_rows, folder.chunk_rows).waiting()
    for row in folder.retired(relay).rows.waiting(relay):
        retire = open_retire(row.data, folder.id)
        found.append(
            api.Retiring(
                relay=_keeper(agent, relay),
                device=named(folder, retire.device).name,
                versions=len(dots.get(row.id, ())),
                since=time_text(row.since_ns),
            )
        )
    return found


def _shown(seconds: int) -> int | None:
    return None if seconds == FOREVER else seconds


def _policy(times: api.Times) -> RetentionPolicy:
    def kept(seconds: int | None) -> int:
        return FOREVER if seconds is None else seconds

    return RetentionPolicy(
        all_s=kept(times.all),
        hourly_s=kept(times.hourly),
        daily_s=kept(times.daily),
        weekly_s=kept(times.weekly),
        monthly_s=kept(times.monthly),
        floor_s=times.floor,
    )
