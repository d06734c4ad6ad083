"""What must hold once users rest and everything runs: trees equal, nothing left over, every value accounted for, and
old versions readable bit for bit.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.real.random_users_hands import Hands
from tests.real.random_users_ledger import Ledger
from tests.support.real_mesh import BIN, COMMAND_TIMEOUT_S, Device, clean_environment, differences, in_sync, until

SETTLE_S = 60.0
VERSIONS_NOTED = 2  # of what is in the trees, each time they are equal
VERSIONS_READ = 2  # of what was noted before
TEMPORARY = 5  # the exit code that asks to try again


class Failure(AssertionError):
    """The product broke a promise."""


@dataclass(frozen=True)
class Noted:
    """A version that was durable, under the id that `log` gave it."""

    path: str
    version: str
    digest: bytes


def rest(devices: list[Device]) -> None:
    """Return when all is in sync, durable and equal, with nothing staged. No device is told to look at its tree:
    what it did not notice by itself is found here. Raises Failure with what differs.
    """

    def reached() -> bool:
        release_holds(devices)
        if not all(in_sync(device.status(), True) for device in devices) or differences(devices):
            return False
        for device in devices:
            device.wait(durable=True)
        return not differences(devices) and not any(device.strays() for device in devices)

    def state() -> str:
        lines = [f"{device.name}: {device.folder()} {device.status()['health']}" for device in devices]
        strays = [f"stray: {stray}" for device in devices for stray in device.strays()]
        return "\n".join(("not at rest", *differences(devices), *strays, *lines))

    try:
        until(reached, state, SETTLE_S)
    except AssertionError as error:
        raise Failure(str(error)) from error


def release_holds(devices: list[Device]) -> None:
    """Let every mass change pass that a safeguard holds: the users meant it."""
    for device in devices:
        if device.folder()["held"]:
            for held in device.cli("held")["held"]:
                device.cli("release", str(held["id"]), "--yes")


def account(user: Hands, ledger: Ledger) -> set[str]:
    """Account for every value in the user's tree, which is like all others; return the names of conflict copies.

    Raises Failure.
    """
    files, links, _ = user.listing()
    wrong = ledger.account(
        ((user.show(path), path.read_bytes()) for path in files), (os.fsencode(os.readlink(path)) for path in links)
    )
    if wrong:
        raise Failure("\n".join(wrong))
    return {path.name for path in files + links if " (conflict " in path.name}


class History:
    """Versions that were durable once, and must stay readable."""

    def __init__(self, generator: random.Random) -> None:
        self.read = 0
        self._random = generator
        self._noted: list[Noted] = []

    def check(self, devices: list[Device]) -> None:
        """Read some that were noted before on any device; then note some of those in the trees. Raises Failure."""
        for noted in self._random.sample(self._noted, min(VERSIONS_READ, len(self._noted))):
            device = self._random.choice(devices)
            if _digest(cat(device, noted.path, noted.version)) != noted.digest:
                raise Failure(f"{device.name}: version {noted.version} of {noted.path} has other bytes than it had")
            self.read += 1
        device = self._random.choice(devices)
        files = [path for path in device.tree.rglob("*") if path.is_file() and not path.is_symlink()]
        files = [path for path in files if ".meshsync" not in path.parts]
        for path in self._random.sample(sorted(files), min(VERSIONS_NOTED, len(files))):
            self._noted.append(_note(device, path))


def cat(device: Device, path: str, version: str) -> bytes:
    """Type `cat`, again as long as it says that the reason may pass: the link to a relay that was killed counts as
    there until it is known to be dead. Return the bytes. Raises Failure with what it said.
    """
    line = [
        str(BIN / "meshsync"),
        "cat",
        str(device.tree / path),
        "--version",
        version,
        "--home",
        str(device.home.path),
    ]
    deadline = time.monotonic() + SETTLE_S
    while True:
        done = subprocess.run(
            line, capture_output=True, timeout=COMMAND_TIMEOUT_S, env=clean_environment(), check=False
        )
        if done.returncode != TEMPORARY or time.monotonic() > deadline:
            break
    if done.returncode:
        raise Failure(f"{device.name}: version {version} of {path} cannot be read: {done.stderr.decode()}")
    return done.stdout


def _note(device: Device, path: Path) -> Noted:
    """Find the version that lies on the disk in what `log` lists. Raises Failure if it is not there."""
    content = path.read_bytes()
    name = str(path.relative_to(device.tree))
    listed = device.cli("log", str(path))["versions"]
    for version in listed:
        is_content = version["change"] not in ("deleted", "renamed") and version["size"] == len(content)
        if is_content and cat(device, name, version["id"]) == content:
            return Noted(name, version["id"], _digest(content))
    raise Failure(f"{device.name}: log {name} does not list the version that lies on the disk: {listed}")


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content).digest()
