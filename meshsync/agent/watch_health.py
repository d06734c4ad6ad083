"""What the user should know of who signed two truths: a relay about its log, a device about its own history."""

from __future__ import annotations

from collections.abc import Callable

from meshsync.agent import api_schema as api
from meshsync.agent.daemon import Agent
from meshsync.agent.evidence_files import Convicted
from meshsync.agent.folder import Folder
from meshsync.agent.members_names import named
from meshsync.agent.observer import display
from meshsync.ids import DeviceId, short
from meshsync.metalog.evidence import Fault

STILL_WORKS = (
    "Devices go on syncing with each other, and content that lies there can still be fetched. Nothing new is stored"
    " there, and what it said it keeps does not count as durable any more"
)
"""What a device does with a relay that is convicted."""

_DID = {
    Fault.FORK: "showed different logs to different devices, or changed what it had shown",
    Fault.ROLLBACK: "serves an older log than it had signed before",
}


def keeper_words(agent: Agent, folder: Folder, keeper: DeviceId) -> str:
    """Return what a relay or backup is and its name, for people."""
    client = agent.relays.get(keeper)
    if client is not None:
        return f"the relay {client.address.host} ({short(keeper)})"
    return f"the {'backup' if folder.is_backup(keeper) else 'relay'} {short(keeper)}"


def faulty_relay(agent: Agent, folder: Folder, found: Convicted, time: Callable[[int], str]) -> tuple[str, str, str]:
    """Return what a convicted relay did, since when and by what file that is known, and what to do."""
    proven = found.proven
    what = f"{folder.name}: {keeper_words(agent, folder, proven.relay)} {_DID[proven.fault]}"
    why = (
        f"found {time(found.since_ns)}, proven by its own signatures in {found.path}"
        f" (to check: python -m meshsync.evidence {found.path}). {STILL_WORKS}"
    )
    if folder.is_backup(proven.relay):
        then = f"Ask its user whether its disk was restored. To begin anew: meshsync remove {folder.name}"
        return what, why, f"{then} {short(proven.relay)}, and let it join from another home (--home DIR)"
    return what, why, "Ask its operator whether it was restored from a backup. To use another: meshsync up --relay URL"


def items(agent: Agent, folder: Folder, time: Callable[[int], str]) -> list[api.HealthItem]:
    """Return what is wrong with the folder's relays and with chains of devices; `time` words nanoseconds since 1970."""
    found = []
    for relay in sorted(folder.watch.convicted.keys() & set(folder.replica.keepers)):
        what, why, then = faulty_relay(agent, folder, folder.watch.convicted[relay], time)
        found.append(api.HealthItem(what=what, why=why, next=then, code="IntegrityError"))
    for relay, doubt in sorted(folder.watch.doubts.items()):
        who = named(folder, doubt.device).name
        what = f"{folder.name}: {who} was shown another log than this device by {keeper_words(agent, folder, relay)}"
        why = (
            f"so says entry {short(doubt.entry)}, read {time(doubt.since_ns)}, of the first {doubt.index} records;"
            " whether the relay or that device is wrong is not proven yet"
        )
        then = f"Let this device and {who} meet on a network: they compare what the relay signed for each"
        found.append(api.HealthItem(what=what, why=why, next=then))
    for relay, sampler in sorted(folder.samplers.items()):
        if owed := sampler.owed():
            rows = sampler.versions()
            of = f", of {display(tuple(rows[0].path.split(b'/')))}" if rows else ""
            still = f"{owed} versions are to be stored again"
            what = f"{folder.name}: {keeper_words(agent, folder, relay)} lost content that it had acknowledged{of}"
            why = f"{sampler.lost_count} pieces were not there any more or damaged; {still}"
            then = "Have its operator look at its disk: meshsync-relay check"
            if folder.is_backup(relay):
                then = "Have its user look at its disk: meshsync status there tells of damage"
            found.append(api.HealthItem(what=what, why=why, next=then, code="BlobCorrupt"))
    for alarm in folder.replica.chains.alarms():
        who = named(folder, alarm.device).name
        branches = " and ".join(short(entry) for entry in alarm.branches)
        found.append(
            api.HealthItem(
                what=f"{folder.name}: {who} goes on with two histories that contradict each other",
                why=f"it signed {branches} after one and the same entry, and went on after each: it runs twice, from a"
                " copy of its state, or its program is altered. The entries of both are kept",
                next=f"End all but one of its copies. If it is not yours: meshsync remove {who}",
                code="IntegrityError",
            )
        )
    return found
