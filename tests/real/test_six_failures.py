"""Six ways in which synchronisers lose work or stay out of sync for good, each tried on real agents."""

from __future__ import annotations

import itertools
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.random_users_check import cat
from tests.real.test_conflicts import apart, values, write
from tests.support.real_mesh import Device, Mesh, settle, until

pytestmark = pytest.mark.slow
CONFLICTS_PRESENT = 6  # the exit code
SAVES = 10
REPLACES = 40
DISK_BYTES, BIG_BYTES = 48 << 20, 8 << 20
FREE_BYTES_LEFT = 4 << 20
LINK_READER = """
import os, select, sys
seen = set()
print(flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    seen.add(os.readlink(sys.argv[1]))  # raises if the path is absent or anything else
print(len(seen))
"""


@pytest.fixture
def devices(mesh: Mesh) -> list[Device]:
    return mesh.pair(["laptop", "desk"], relay=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full. Needs root."""
    why = "" if os.geteuid() == 0 else "needs root to mount a small file system"
    if why and os.environ.get("MESHSYNC_REQUIRE") == "1":
        pytest.fail(f"MESHSYNC_REQUIRE=1, but this machine {why}")
    if why:
        pytest.skip(why)
    place = tmp_path / "small disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


# --- one side of a conflict on a conflict copy is lost --------------------------------------------------------------


def test_conflicts_on_conflict_copies_keep_every_side(devices: list[Device]) -> None:
    write(devices[0].tree / "note", "base")
    settle(devices)
    apart(devices, [lambda root, name=d.name: write(root / "note", f"{name} 0") for d in devices])  # type: ignore[misc]
    settle(devices)
    kept = {"laptop 0", "desk 0"}
    for depth in (1, 2):
        (copy,) = (p for p in devices[0].tree.iterdir() if " (conflict " in p.name and p.read_text().endswith("0"))
        before = copy.read_text()
        texts = {device.name: f"{device.name} {depth}0" for device in devices}
        apart(devices, [lambda root, name=copy.name, t=texts[d.name]: write(root / name, t) for d in devices])  # type: ignore[misc]
        settle(devices)
        kept = (kept - {before}) | set(texts.values())
        assert [set(values(device.tree)) for device in devices] == [kept, kept]
        for path in devices[0].tree.iterdir():  # leave one copy to go on with
            if " (conflict " in path.name and path.name != copy.name:
                write(path, path.read_text() + " done")
                kept = (kept - {path.read_text().removesuffix(" done")}) | {path.read_text()}
        settle(devices)


# --- a path is absent while it is replaced --------------------------------------------------------------------------


def test_a_link_is_never_absent_while_it_is_replaced(devices: list[Device], tmp_path: Path) -> None:
    laptop, desk = devices
    (laptop.tree / "link").symlink_to("0")
    settle(devices)
    line = [sys.executable, "-c", LINK_READER, str(desk.tree / "link")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for number in range(1, REPLACES + 1):
                (tmp_path / "aside").symlink_to(str(number))
                (tmp_path / "aside").rename(laptop.tree / "link")
                until(lambda: os.readlink(desk.tree / "link") == str(number), desk.status)  # noqa: B023
            output, problem = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0, problem.decode()
    assert int(output) > REPLACES / 2


# --- an edit that keeps size and mtime is never noticed -------------------------------------------------------------


def overwrite(path: Path, text: bytes) -> None:
    with path.open("r+b") as file:
        file.write(text)


def overwrite_mapped(path: Path, text: bytes) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[: len(text)] = text


def overwrite_through_a_link(path: Path, text: bytes) -> None:
    other = path.parent.parent / f"other name of {path.name}"
    if not other.exists():
        other.hardlink_to(path)
    overwrite(other, text)


EDITS = (overwrite, overwrite_mapped, overwrite_through_a_link)


def test_an_edit_that_keeps_size_and_mtime_arrives(devices: list[Device]) -> None:
    laptop, desk = devices
    for edit in EDITS:
        write(laptop.tree / edit.__name__, "text 0")
    settle(devices)
    for number in range(1, 6):
        text = b"text %d" % number
        for edit in EDITS:
            path = laptop.tree / edit.__name__
            before = path.stat()
            edit(path, text)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            after = path.stat()
            assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        # No rescan: it reads every file again, and would find what looking at the tree must find.
        until(lambda: values(desk.tree) == [text.decode()] * len(EDITS), lambda: values(desk.tree), 20.0)  # noqa: B023


# --- versions saved within one second overwrite each other ----------------------------------------------------------


def test_ten_saves_on_each_side_within_one_second_end_as_twenty_files(devices: list[Device]) -> None:
    now_ns = time.time_ns() // 10**9 * 10**9  # what was saved within one second, to a clock that counts seconds

    def save_all(device: Device) -> Callable[[Path], object]:
        def change(root: Path) -> None:
            for number in range(SAVES):
                write(root / f"note-{number}.txt", f"{device.name} {number}")
                os.utime(root / f"note-{number}.txt", ns=(now_ns, now_ns))

        return change

    for number in range(SAVES):
        write(devices[0].tree / f"note-{number}.txt", "base")
    settle(devices)
    apart(devices, [save_all(device) for device in devices])
    settle(devices)
    expected = sorted(f"{device.name} {number}" for device in devices for number in range(SAVES))
    assert [values(device.tree) for device in devices] == [expected, expected]


def test_ten_saves_of_one_file_on_each_side_are_versions_of_their_own(devices: list[Device]) -> None:
    write(devices[0].tree / "note", "base")
    settle(devices)
    for device in devices:
        device.cli("pause")
    lengths = {device.name: range(100 * at, 100 * at + SAVES) for at, device in enumerate(devices, 1)}
    for device in devices:
        for number, length in enumerate(lengths[device.name]):
            write(device.tree / "note", device.name[0] * length)
            until(lambda: device.folder()["versions"] >= number + 2, device.status, 20.0)  # noqa: B023
    for device in devices:
        device.cli("resume")
    settle(devices)
    last = sorted(device.name[0] * lengths[device.name][-1] for device in devices)
    for device in devices:
        assert values(device.tree) == last
        listed = device.versions()
        saved = [version["size"] for version in listed if version["size"] >= 100]
        assert sorted(saved) == sorted(itertools.chain(*lengths.values())), "each save is listed once"
        for version in listed:
            if version["kept"]:
                content = cat(device, version["path"], version["id"]).decode()
                assert len(content) == version["size"] and content in (*last, "base")


# --- sync stays blocked after a full disk ---------------------------------------------------------------------------


def test_sync_goes_on_by_itself_after_a_full_disk(mesh: Mesh, small_disk: Path) -> None:
    laptop, desk = mesh.add("laptop"), mesh.add("desk")
    desk.tree = small_disk / "tree"
    desk.tree.mkdir()
    desk.join(laptop.share())
    write(laptop.tree / "note", "first")
    settle([laptop, desk])
    statistics = os.statvfs(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(statistics.f_bavail * statistics.f_frsize - FREE_BYTES_LEFT))
    (laptop.tree / "big").write_bytes(os.urandom(BIG_BYTES))
    laptop.rescan()
    until(lambda: "bytes are needed" in str(desk.status()["health"]), desk.status, 30.0)
    assert "bytes are needed" in str(desk.cli("why", str(desk.tree / "big"))["waits_for"])
    assert desk.folder()["state"] != "in sync" and not (desk.tree / "big").exists()
    assert (desk.tree / "note").read_text() == "first"
    filler.unlink()
    until((desk.tree / "big").exists, desk.status, 30.0)
    settle([laptop, desk])
    assert desk.status()["health"] == [] and not desk.strays()


# --- a directory against a file stays out of sync -------------------------------------------------------------------


def make_file(path: Path, who: str) -> None:
    path.write_text(f"{path.name} by {who}")


def make_directory(path: Path, who: str) -> None:
    path.mkdir()
    (path / f"by {who}").write_text(f"{path.name} by {who}")


def make_link(path: Path, who: str) -> None:
    path.symlink_to(f"{path.name} by {who}")


KINDS: dict[str, Callable[[Path, str], None]] = {"file": make_file, "directory": make_directory, "link": make_link}


def everything(tree: Path) -> list[str]:
    """Return what files hold and links point to."""
    found = [path for path in tree.rglob("*") if ".meshsync" not in path.parts]
    links = [os.readlink(path) for path in found if path.is_symlink()]
    return sorted(links + [path.read_text() for path in found if path.is_file() and not path.is_symlink()])


def test_whatever_two_devices_create_under_one_name_both_have_both(devices: list[Device]) -> None:
    settle(devices)
    pairs = list(itertools.product(KINDS, KINDS))

    def create(side: int, who: str) -> Callable[[Path], object]:
        def change(root: Path) -> None:
            for pair in pairs:
                KINDS[pair[side]](root / "-".join(pair), who)

        return change

    apart(devices, [create(side, device.name) for side, device in enumerate(devices)])
    settle(devices)
    expected = sorted(f"{'-'.join(pair)} by {device.name}" for pair in pairs for device in devices)
    assert [everything(device.tree) for device in devices] == [expected, expected]
    for device in devices:
        device.down()
    for device in devices:
        device.up()
    write(devices[1].tree / "file-directory" / "later", "later")
    settle(devices)
    assert everything(devices[0].tree) == sorted([*expected, "later"])
