"""What does a folder of many members cost: its chain, the next device's join, a new key?

Run: python -m tests.benchmarks.bench_members [members]. One process, real keys, no disk or network: what is measured is
the making, checking and folding of membership entries. Prints entries, bytes, seconds and resident memory.
"""

from __future__ import annotations

import platform
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from meshsync.agent.key_ring import keys_from_boxes
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import FolderKeys, commitment, pack_bundle, secret_commitment, wrap_epoch
from meshsync.crypto.identity import DeviceKeys
from meshsync.limits import MEMBERSHIP_ENTRY_BYTES_MAX
from meshsync.metalog.membership import Membership, found
from meshsync.metalog.membership_entry import (
    Admit,
    Box,
    Genesis,
    Invite,
    OpenedMembership,
    Rekey,
    WrappedKey,
    open_membership,
    sign_change,
    sign_genesis,
)
from meshsync.roles import Role

T = TypeVar("T")
MEMBERS = 1000
EXPIRES_S = 1 << 33


class Chain:
    """A folder's membership chain, made entry by entry with fresh keys from one seed."""

    def __init__(self) -> None:
        self.chance = random.Random(1)
        self.owner = self.device()
        secret, key = self.chance.randbytes(32), self.chance.randbytes(32)
        epoch = commitment(key)
        genesis = Genesis(
            1, 16384, 65536, 262144, bytes(32), self.owner.box_public, epoch, secret_commitment(secret), b"box"
        )
        self.entries = [sign_genesis(self.owner, genesis)]
        self.membership = found(self.entries[0])
        self.keys = FolderKeys(self.membership.folder, secret, {epoch: key}, epoch)

    def device(self) -> DeviceKeys:
        return DeviceKeys(self.chance.randbytes(64))

    def add(self, author: DeviceKeys, change: Invite | Admit | Rekey, ticket: DeviceKeys | None = None) -> int:
        """Append an entry; return its size in bytes."""
        now = self.membership
        entry = sign_change(author, now.folder, now.head, now.count, change, ticket=ticket)
        self.membership = now.apply(entry)
        self.entries.append(entry)
        return len(entry.data)

    def join(self) -> DeviceKeys:
        """Let one more device in."""
        newcomer, ticket = self.device(), self.device()
        sealed = box(ticket.box_public, self.chance.randbytes(32), pack_bundle(self.keys))
        self.add(self.owner, Invite(ticket.device, Role.WRITER, EXPIRES_S, self.keys.current, sealed))
        self.add(newcomer, Admit(ticket.device, Role.WRITER, newcomer.box_public), ticket)
        return newcomer

    def rekey(self) -> int:
        """Give every member a new key; return the entry's size."""
        key = self.chance.randbytes(32)
        fresh = self.keys.with_epoch(key, make_current=True)
        bundle = pack_bundle(fresh)
        boxes = [
            Box(device, box(member.box_public, self.chance.randbytes(32), bundle))
            for device, member in self.membership.members.items()
        ]
        old = self.membership.epoch
        wrapped = WrappedKey(old, wrap_epoch(key, self.keys.epochs[old], self.keys.folder))
        size = self.add(self.owner, Rekey(commitment(key), tuple(sorted(boxes)), (wrapped,)))
        self.keys = fresh
        return size


def verified(data: list[bytes]) -> Membership:
    """Check and fold a chain as a new device does."""
    opened = [open_membership(entry) for entry in data]
    membership = found(opened[0])
    for entry in opened[1:]:
        membership = membership.apply(entry)
    return membership


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work` returns and the seconds that it took."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def size_of(entries: list[OpenedMembership]) -> int:
    return sum(len(entry.data) for entry in entries)


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


def main(members: int) -> None:
    """Print the table."""
    print(f"{platform.machine()}, {platform.python_version()}; {members} members")
    print(f"{'':38} {'entries':>8} {'bytes':>10} {'seconds':>8} {'RSS MiB':>8}")

    def row(what: str, entries: int, size: int, seconds: float) -> None:
        print(f"{what:38} {entries:8} {size:10,} {seconds:8.3f} {rss_mib():8.0f}")

    chain = Chain()
    row("a folder of one", 1, size_of(chain.entries), 0.0)
    _, seconds = timed(lambda: [chain.join() for _ in range(members - 1)])
    row(f"made by {members - 1} joins", len(chain.entries), size_of(chain.entries), seconds)
    size, seconds = timed(chain.rekey)
    row(f"a new key for {members}, made and folded", 1, size, seconds)
    assert size <= MEMBERSHIP_ENTRY_BYTES_MAX
    _, seconds = timed(lambda: open_membership(chain.entries[-1].data))
    row("the same entry, checked by a member", 1, size, seconds)
    before = size_of(chain.entries)
    newcomer, seconds = timed(chain.join)
    row("one more device, invited and admitted", 2, size_of(chain.entries) - before, seconds)
    data = [entry.data for entry in chain.entries]
    membership, seconds = timed(lambda: verified(data))
    row("the whole chain, checked and folded", len(data), sum(map(len, data)), seconds)
    assert membership.members == chain.membership.members and newcomer.device in membership.members
    _, seconds = timed(chain.rekey)
    _, opening = timed(lambda: keys_from_boxes(chain.membership, newcomer.device, newcomer.box_secret))
    row("the keys of the newcomer, opened", 0, 0, opening)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else MEMBERS)
