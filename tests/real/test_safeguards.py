"""Mass changes by one device are held, reported, and released or rejected, bit for bit (P14); ordinary ones are not."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.real.trees import CONTROL_DIRECTORY, Found, observe
from tests.support.real_mesh import Device, Mesh, differences, in_sync, settle, until

pytestmark = pytest.mark.slow
FILES = 300
STEP = 10  # files removed between two looks of a slow deletion
PASSES_MAX = 100  # SAFETY_CHANGES_MIN is above 30 % of FILES
MANY_FILES = 10_000
Tree = dict[bytes, Found]


def fill(tree: Path, count: int = FILES, seed: int = 1) -> None:
    """Make `count` files with bytes of their own in ten directories, and an empty directory."""
    generator = random.Random(seed)
    for number in range(count):
        path = tree / f"{number % 10}" / f"{number:04}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(generator.randbytes(generator.randrange(1, 3000)))
    (tree / "empty").mkdir()


def files(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*.bin") if CONTROL_DIRECTORY.decode() not in path.parts)


def empty(tree: Path) -> None:
    """`rm -r *`: the control directory with its marker stays."""
    for path in tree.iterdir():
        if path.name != CONTROL_DIRECTORY.decode():
            shutil.rmtree(path)


def encrypt(tree: Path, count: int = FILES) -> None:
    """Overwrite files in place with noise of the same length."""
    generator = random.Random(99)
    for path in files(tree)[:count]:
        path.write_bytes(generator.randbytes(path.stat().st_size))


def held(device: Device) -> list[dict[str, Any]]:
    listed = device.cli("held")["held"]
    assert isinstance(listed, list)
    return listed


def until_held(device: Device, count: int = 1) -> list[dict[str, Any]]:
    """Return what is held once everything else is done there."""
    device.rescan()
    until(
        lambda: device.folder()["state"] == "held" and len(held(device)) == count,
        lambda: (device.folder(), device.status()["health"], held(device)),
    )
    return held(device)


def decide(device: Device, verb: str) -> dict[str, Any]:
    """Release or reject the one thing held at `device`."""
    (hold,) = until_held(device)
    answer = device.cli(verb, hold["id"], "--yes")
    assert answer["count"] == hold["count"]
    return answer


def until_equal(tree: Path, want: Tree, device: Device) -> None:
    until(
        lambda: in_sync(device.status(), False) and observe(tree) == want,
        lambda: (
            device.folder(),
            device.status()["health"],
            list(want.items() ^ observe(tree).items())[:6],
        ),
    )


@pytest.fixture
def devices(mesh: Mesh) -> list[Device]:
    made = mesh.pair(["laptop", "desk"], relay=True)
    fill(made[0].tree)
    settle(made, durable=True)
    assert [held(device) for device in made] == [[], []]
    return made


def test_an_emptied_folder_is_held_and_reported_and_survives_a_restart(devices: list[Device]) -> None:
    laptop, desk = devices
    before = observe(desk.tree)
    empty(laptop.tree)
    (hold,) = until_held(laptop)
    assert (hold["side"], hold["change"], hold["device"]) == ("publish", "deletion", "laptop")
    assert hold["count"] + hold["passed"] == hold["total"] == FILES
    assert len(hold["examples"]) == 5
    assert laptop.folder()["held"] == hold["count"]
    assert laptop.status()["idle"] is False
    assert any("held" in item["what"] and item["next"] == "meshsync held" for item in laptop.status()["health"])
    laptop.down()
    laptop.up()
    (again,) = until_held(laptop)
    assert {**again, "examples": ()} == {**hold, "examples": ()}
    laptop.kill9()
    laptop.up()
    (again,) = until_held(laptop)
    assert again["id"] == hold["id"]
    desk.rescan()
    assert len(before.items() - observe(desk.tree).items()) <= PASSES_MAX


def test_a_rejected_deletion_brings_every_file_back_here(devices: list[Device]) -> None:
    laptop, desk = devices
    desk.down()
    want = observe(laptop.tree)
    laptop.down()
    empty(laptop.tree)  # seen as a whole by the scan at the start
    laptop.up()
    decide(laptop, "reject")
    until_equal(laptop.tree, want, laptop)
    desk.up()
    settle(devices, durable=True)
    assert observe(desk.tree) == want


def test_a_released_deletion_is_asked_about_where_it_arrives(devices: list[Device]) -> None:
    laptop, desk = devices
    before = observe(desk.tree)
    laptop.down()
    empty(laptop.tree)
    laptop.up()
    decide(laptop, "release")
    (hold,) = until_held(desk)
    assert (hold["side"], hold["change"], hold["device"], hold["count"]) == ("apply", "deletion", "laptop", FILES)
    assert observe(desk.tree) == before
    decide(desk, "release")
    settle(devices, durable=True)
    assert observe(desk.tree) == {}


def test_a_deletion_rejected_where_it_arrives_comes_back_everywhere(devices: list[Device]) -> None:
    laptop, desk = devices
    want = observe(desk.tree)
    laptop.down()
    empty(laptop.tree)
    laptop.up()
    decide(laptop, "release")
    until_held(desk)
    desk.down()
    desk.up()
    decide(desk, "reject")
    settle(devices, durable=True)
    assert observe(laptop.tree) == observe(desk.tree) == want


def test_rewritten_files_are_held_and_the_rest_goes_on(devices: list[Device]) -> None:
    laptop, desk = devices
    laptop.down()
    encrypt(laptop.tree)
    laptop.up()
    (hold,) = until_held(laptop)
    assert (hold["side"], hold["change"], hold["count"]) == ("publish", "rewrite", FILES)
    before = observe(desk.tree)
    (laptop.tree / "ransom.txt").write_text("pay")
    (desk.tree / "from desk.txt").write_text("ordinary work")
    until((desk.tree / "ransom.txt").exists, laptop.folder)
    until((laptop.tree / "from desk.txt").exists, laptop.folder)
    assert before.items() <= observe(desk.tree).items()


def test_a_rejected_rewrite_brings_the_old_bytes_back_and_keeps_the_new(devices: list[Device]) -> None:
    laptop, desk = devices
    want = observe(laptop.tree)
    laptop.down()
    encrypt(laptop.tree)
    encrypted = observe(laptop.tree)
    laptop.up()
    answer = decide(laptop, "reject")
    until_equal(laptop.tree, want, laptop)
    settle(devices, durable=True)
    assert observe(desk.tree) == want
    kept = observe(Path(answer["kept_in"]))
    assert {path: found.content for path, found in kept.items() if found.kind == "file"} == {
        path: found.content for path, found in encrypted.items() if found.kind == "file"
    }


def test_a_released_rewrite_passes_whole_and_a_rejected_one_is_undone_by_an_ordinary_version(
    devices: list[Device],
) -> None:
    laptop, desk = devices
    want = observe(laptop.tree)
    laptop.down()
    encrypt(laptop.tree)
    encrypted = observe(laptop.tree)
    laptop.up()
    decide(laptop, "release")
    (hold,) = until_held(desk)
    assert (hold["side"], hold["change"], hold["device"], hold["count"]) == ("apply", "rewrite", "laptop", FILES)
    decide(desk, "reject")
    (hold,) = until_held(laptop)  # for laptop it is a mass change by desk
    assert (hold["side"], hold["change"], hold["device"], hold["count"]) == ("apply", "rewrite", "desk", FILES)
    assert observe(laptop.tree) == encrypted
    decide(laptop, "release")
    settle(devices, durable=True)
    assert observe(laptop.tree) == observe(desk.tree) == want


def test_a_slow_deletion_is_held_before_it_is_done(devices: list[Device]) -> None:
    laptop, desk = devices
    before = observe(desk.tree)
    names = files(laptop.tree)
    for start in range(0, len(names), STEP):
        for path in names[start : start + STEP]:
            path.unlink()
        laptop.rescan()
    (hold,) = until_held(laptop)
    assert hold["passed"] <= PASSES_MAX
    assert hold["count"] + hold["passed"] == FILES
    desk.rescan()
    gone = before.keys() - observe(desk.tree).keys()
    assert len(gone) <= PASSES_MAX
    decide(laptop, "release")
    (hold,) = until_held(desk)
    decide(desk, "release")
    settle(devices, durable=True)
    assert not files(desk.tree)


def test_what_comes_in_many_small_entries_is_held_where_it_arrives(devices: list[Device]) -> None:
    laptop, desk = devices
    names = files(laptop.tree)
    for start in range(0, PASSES_MAX, STEP):
        for path in names[start : start + STEP]:
            path.unlink()
        settle(devices)
    for path in names[PASSES_MAX:250]:
        path.unlink()
    decide(laptop, "release")
    (hold,) = until_held(desk)
    assert (hold["passed"], hold["count"], hold["total"]) == (PASSES_MAX, 150, FILES)
    decide(desk, "release")
    settle(devices, durable=True)
    assert len(files(desk.tree)) == 50


def test_files_that_come_back_by_themselves_end_the_hold(devices: list[Device], tmp_path: Path) -> None:
    laptop, desk = devices
    want = observe(desk.tree)
    laptop.down()
    for name in range(10):
        (laptop.tree / f"{name}").rename(tmp_path / f"{name}")
    laptop.up()
    until_held(laptop)
    for name in range(10):
        (tmp_path / f"{name}").rename(laptop.tree / f"{name}")
    settle(devices, durable=True)
    assert held(laptop) == []
    assert observe(desk.tree) == want


def test_an_unknown_hold_is_not_found_and_a_decision_is_made_once(devices: list[Device]) -> None:
    laptop, _ = devices
    laptop.cli("release", "000000", "--yes", code=3)
    laptop.down()
    empty(laptop.tree)
    laptop.up()
    (hold,) = until_held(laptop)
    assert laptop.cli("reject", hold["id"], "--dry-run")["held"] == [hold]
    laptop.cli("reject", hold["id"], "--yes")
    laptop.cli("reject", hold["id"], "--yes", code=3)


def test_everyday_deletions_and_edits_are_never_held(devices: list[Device]) -> None:
    laptop, desk = devices
    for path in files(laptop.tree)[:60]:
        path.unlink()
    encrypt(laptop.tree, 100)
    settle(devices, durable=True)
    assert [held(device) for device in devices] == [[], []]
    assert len(files(desk.tree)) == FILES - 60


def test_joining_with_a_filled_folder_is_never_held(mesh: Mesh) -> None:
    """One has an old copy of every file, another the same files: both come up to date without a question."""
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    fill(laptop.tree)
    settle([laptop, desk], durable=True)
    old = mesh.directory / "old"
    shutil.copytree(laptop.tree, old, ignore=shutil.ignore_patterns(CONTROL_DIRECTORY.decode()))
    for start in range(0, FILES, 100):  # an hour's work each
        for path in files(laptop.tree)[start : start + 100]:
            path.write_bytes(path.read_bytes() + b"more")
        until(lambda: bool(held(laptop)) or in_sync(laptop.status(), False), laptop.folder)
        for device in (laptop, desk):
            device.rescan()
    for device in (laptop, desk):
        for _ in range(3):
            device.rescan()
            for hold in held(device):
                device.cli("release", hold["id"], "--yes")
    settle([laptop, desk], durable=True)
    for name in ("phone", "tablet"):
        newcomer = mesh.add(name)
        shutil.copytree(
            old if name == "phone" else laptop.tree,
            newcomer.tree,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(CONTROL_DIRECTORY.decode()),
        )
        newcomer.join(laptop.share())
        settle([laptop, newcomer])
        assert held(newcomer) == []
    assert held(laptop) == held(desk) == []
    assert not differences([laptop, desk])


def test_a_moved_directory_of_many_files_is_never_held(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=False)
    for number in range(MANY_FILES):
        directory = laptop.tree / f"photos/{number % 50}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}.txt").write_text(f"the content of {number}")
    settle([laptop, desk], timeout_s=300)
    (laptop.tree / "photos").rename(laptop.tree / "pictures")
    settle([laptop, desk])
    for name in range(50):
        (laptop.tree / f"pictures/{name}").rename(laptop.tree / f"{name}")
    settle([laptop, desk])
    assert held(laptop) == held(desk) == []
