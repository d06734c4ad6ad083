"""What devices and people of a folder are called. Invariant: a device that is gone keeps the name that it told."""

from __future__ import annotations

from dataclasses import dataclass

from meshsync.agent.folder import Folder
from meshsync.agent.key_ring import open_label
from meshsync.ids import DeviceId, short


@dataclass(frozen=True, slots=True)
class Named:
    """A device that is or was a member, with the names that it told."""

    device: DeviceId
    name: str
    person: str


def named(folder: Folder, device: DeviceId) -> Named:
    """Return the names of a device that is or was a member; its id's beginning where it told none."""
    name, person = open_label(folder.keys().secret, folder.told.names.get(device, b""))
    return Named(device, name or short(device), person)
