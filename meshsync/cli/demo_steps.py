"""The steps of the demonstration, in order. Each does one thing a user does and checks what a user would see.

Invariant: a step returns only if its check held; every check can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshsync.cli.demo_mesh import DemoFailed, Device, Mesh, contents
from meshsync.limits import CHUNK_SIZE_BYTES_MAX, KIB, MIB

SMALL_FILES = 300
SMALL_FILE_BYTES = 4 * KIB
BIG_FILE_BYTES = 64 * MIB
EDIT_OFFSET = 33 * MIB + 7
EDIT = b"twelve bytes"
EDIT_SENT_BYTES_MAX = 1 * MIB  # to the other device and the relay: a chunk, a list and the root each, far below
RELAYED_BYTES = 1 * MIB
DAMAGED_FILE_BYTES = 4 * MIB
DAMAGED_RECEIVED_BYTES_MAX = DAMAGED_FILE_BYTES + DAMAGED_FILE_BYTES // 4 + CHUNK_SIZE_BYTES_MAX  # padding, framing


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did: one line, and the bytes that its line speaks of."""

    result: str
    bytes: int = 0


class Story:
    """The state that the steps share."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.devices: dict[str, Device] = {}
        self.original = b""

    @property
    def laptop(self) -> Device:
        return self.devices["laptop"]

    @property
    def desk(self) -> Device:
        return self.devices["desk"]

    def settle(self, what: str) -> None:
        """Return when both devices are in sync and their trees are equal. Raises DemoFailed."""
        both = (self.laptop, self.desk)
        self.mesh.settle(both, lambda: contents(self.laptop.tree) == contents(self.desk.tree), what)


def start(story: Story) -> Outcome:
    """Start a relay and two agents."""
    story.mesh.start_relay()
    for name in ("laptop", "desk"):
        story.devices[name] = story.mesh.add(name)
    story.laptop.tree.mkdir(parents=True)
    return Outcome("3 processes on loopback")


def pair(story: Story) -> Outcome:
    """Share on one device, join on the other."""
    (story.laptop.tree / "notes.txt").write_text("the first line\n")
    code = story.laptop.cli("share", str(story.laptop.tree))["code"]
    joined = story.desk.cli("join", code, str(story.desk.tree))
    check(joined["files"] == 1, f"the joined folder has {joined['files']} files, not 1")
    check(contents(story.desk.tree) == contents(story.laptop.tree), "the joined folder differs")
    return Outcome(f"{code}, used once", joined["bytes"])


def first_sync(story: Story) -> Outcome:
    """Copy many small files and a large one into the folder."""
    random_bytes = story.mesh.runtime.random_bytes
    for number in range(SMALL_FILES):
        directory = story.laptop.tree / f"album {number % 10}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number}.raw").write_bytes(random_bytes(SMALL_FILE_BYTES))
    story.original = random_bytes(BIG_FILE_BYTES)
    (story.laptop.tree / "big.bin").write_bytes(story.original)
    story.settle("equal trees after the first sync")
    story.mesh.await_durable(story.laptop)
    total = BIG_FILE_BYTES + SMALL_FILES * SMALL_FILE_BYTES
    return Outcome(f"{SMALL_FILES} files and one of 64 MiB, equal and durable", total)


def small_edit(story: Story) -> Outcome:
    """Edit 12 bytes in the middle of the large file."""
    before = story.laptop.sent()
    with (story.laptop.tree / "big.bin").open("r+b") as file:
        file.seek(EDIT_OFFSET)
        file.write(EDIT)
    story.settle("equal trees after the edit")
    story.mesh.await_durable(story.laptop)
    sent = story.laptop.sent() - before
    check(0 < sent <= EDIT_SENT_BYTES_MAX, f"{sent} bytes were sent for an edit of {len(EDIT)}")
    return Outcome(f"{len(EDIT)} of 64 MiB changed; sent to the desk and the relay", sent)


def conflict(story: Story) -> Outcome:
    """Edit one file on both sides while they are apart."""
    texts = {"laptop": "written on the laptop\n", "desk": "written on the desk\n"}
    for device in story.devices.values():
        device.cli("pause")
        (device.tree / "notes.txt").write_text(texts[device.name])
        device.cli("rescan")
    for device in story.devices.values():
        device.cli("resume")
    story.settle("equal trees after the conflict")
    for device in story.devices.values():
        found = contents(device.tree)
        values = {text.decode() for name, text in found.items() if name.startswith("notes")}
        check(values == set(texts.values()), f"{device.name} does not hold both versions")
        listed = device.cli("conflicts")["conflicts"]
        check(len(listed) == 1, f"{device.name} lists {len(listed)} conflicts, not 1")
    copy = next(name for name in contents(story.desk.tree) if name.startswith("notes") and name != "notes.txt")
    return Outcome(f"both kept, here and there: {copy}", sum(map(len, texts.values())))


def relay_alone(story: Story) -> Outcome:
    """Fetch what a device made that is switched off now."""
    story.desk.cli("down")
    made = story.mesh.runtime.random_bytes(RELAYED_BYTES)
    (story.laptop.tree / "while away.bin").write_bytes(made)
    story.laptop.cli("rescan")
    story.mesh.await_durable(story.laptop)
    story.laptop.cli("down")
    story.desk.cli("up")
    target = story.desk.tree / "while away.bin"
    story.mesh.settle([story.desk], lambda: target.exists() and target.read_bytes() == made, "the file is on the desk")
    check(story.desk.received("lan", "direct") == 0, "bytes came from a device that is off")
    return Outcome("laptop off, desk complete from the relay", story.desk.received("relay"))


def restore(story: Story) -> Outcome:
    """Bring the large file back to what it was before the edit."""
    story.laptop.cli("up")
    path = str(story.desk.tree / "big.bin")
    oldest = min(story.desk.cli("log", path)["versions"], key=lambda version: int(version["n"]))
    story.desk.cli("restore", path, "--version", str(oldest["n"]))
    story.settle("equal trees after the restore")
    check((story.laptop.tree / "big.bin").read_bytes() == story.original, "the restored file differs from the original")
    return Outcome(f"big.bin@{oldest['n']} is back, bit for bit, on both", BIG_FILE_BYTES)


def damage(story: Story) -> Outcome:
    """Change one chunk on its way."""
    story.desk.cli("down")
    story.desk.cli("up", environment={"MESHSYNC_FAULT": "damage-chunk:1"})
    before = story.desk.stats()["content_bytes_fetched"]
    (story.laptop.tree / "fragile.bin").write_bytes(story.mesh.runtime.random_bytes(DAMAGED_FILE_BYTES))
    story.settle("equal trees after the damage")
    stats = story.desk.stats()
    damaged, fetched = stats["chunks_damaged"], stats["content_bytes_fetched"] - before
    check(damaged == 1, f"{damaged} chunks were damaged, not 1")
    check(fetched < DAMAGED_FILE_BYTES + CHUNK_SIZE_BYTES_MAX, f"{fetched} bytes of content were fetched")
    received = story.desk.received()
    check(received <= DAMAGED_RECEIVED_BYTES_MAX, f"{received} bytes were received for {DAMAGED_FILE_BYTES}")
    return Outcome("1 chunk damaged, noticed, and only it fetched again", received)


def check(holds: bool, otherwise: str) -> None:
    """Raise DemoFailed saying `otherwise` unless `holds`."""
    if not holds:
        raise DemoFailed(otherwise, next_step="meshsync demo --keep")


STEPS: tuple[tuple[str, Callable[[Story], Outcome]], ...] = (
    ("start a relay and two agents", start),
    ("pair by code", pair),
    ("first sync", first_sync),
    ("small edit", small_edit),
    ("conflict while apart", conflict),
    ("fetch from the relay alone", relay_alone),
    ("restore an old version", restore),
    ("damage in transit", damage),
)
