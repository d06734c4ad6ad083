"""What a membership chain tells beyond the present members: who left and by whose hand, who invited whom. Pure.

Invariant: the chain given is one that `membership.replay` accepts; nothing is verified here a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshsync.ids import DeviceId, EpochId
from meshsync.metalog.membership_entry import (
    Admit,
    ChangeRole,
    Enrol,
    Genesis,
    Invite,
    OpenedMembership,
    Rekey,
    Remove,
)
from meshsync.roles import Role


@dataclass(frozen=True, slots=True)
class Departure:
    """`device` is no member since entry `seq` of the chain, signed by `by`: by itself if it left.

    `name` is its sealed name, `role` the one that it had.
    """

    device: DeviceId
    by: DeviceId
    seq: int
    role: Role
    name: bytes

    @property
    def left(self) -> bool:
        """Whether the device left by itself."""
        return self.by == self.device


@dataclass(frozen=True, slots=True)
class Told:
    """What a chain tells. `departures` are of those that are no members now, `names` are sealed, of all that ever were.

    `invited_by` is by member; the founder has no inviter. `inviters` is by ticket. `epochs` are those that were
    current, oldest first. `holders` were given the current key and may still have it. `enrolled` are all keys that were
    ever enrolled as kept off-line.
    """

    departures: dict[DeviceId, Departure]
    names: dict[DeviceId, bytes]
    invited_by: dict[DeviceId, DeviceId]
    inviters: dict[bytes, DeviceId]
    epochs: tuple[EpochId, ...]
    holders: frozenset[DeviceId]
    readers: frozenset[DeviceId]
    enrolled: frozenset[DeviceId] = frozenset()

    @property
    def key_is_due(self) -> bool:
        """Whether somebody holds the current key who may read no more, or may read and was never given it."""
        return self.holders != self.readers


def tell(chain: Sequence[OpenedMembership]) -> Told:
    """Return what `chain`, genesis first, tells."""
    roles: dict[DeviceId, Role] = {}
    names: dict[DeviceId, bytes] = {}
    departures: dict[DeviceId, Departure] = {}
    invited_by: dict[DeviceId, DeviceId] = {}
    inviters: dict[bytes, DeviceId] = {}
    epochs: list[EpochId] = []
    holders: frozenset[DeviceId] = frozenset()
    enrolled: set[DeviceId] = set()

    def readers() -> frozenset[DeviceId]:
        return frozenset(device for device, role in roles.items() if role.may_read)

    for entry in chain:
        rekey: Rekey | None = None
        match entry.change:
            case Genesis() as genesis:
                roles[entry.author], names[entry.author] = Role.OWNER, genesis.device_name
                epochs.append(genesis.epoch)
                holders = readers()
            case Invite() as invite:
                inviters[bytes(invite.ticket)] = entry.author
            case Admit() as admit:
                roles[entry.author], names[entry.author] = admit.role, admit.device_name
                departures.pop(entry.author, None)
                invited_by[entry.author] = inviters[bytes(admit.ticket)]
                if admit.role.may_read:
                    holders |= {entry.author}
            case Enrol() as enrol:
                device = DeviceId(enrol.device)
                roles[device], names[device] = Role.OWNER, enrol.device_name
                departures.pop(device, None)
                invited_by[device] = entry.author
                holders |= {device}
                enrolled.add(device)
            case Remove() as remove:
                role = roles.pop(remove.device)
                departures[remove.device] = Departure(
                    remove.device, entry.author, entry.body.seq, role, names[remove.device]
                )
                rekey = remove.rekey
            case ChangeRole() as change:
                roles[change.device] = change.role
            case Rekey() as rekey:
                pass
            case _:
                pass
        if rekey is not None:
            epochs.append(rekey.epoch)
            holders = readers()
    return Told(departures, names, invited_by, inviters, tuple(epochs), holders, readers(), frozenset(enrolled))
