"""Ending conflicts on real agents: what wins is everywhere, what lost comes back, nothing is ever absent."""

from __future__ import annotations

import os
import resource
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.real.test_conflicts import apart, values, write
from tests.support.real_mesh import Device, Mesh, settle, until

pytestmark = pytest.mark.slow
CONFLICTS_PRESENT = 6  # the exit code
NOT_FOUND, TEMPORARY, USAGE, TIMEOUT = 3, 5, 2, 8
BASE = "one\ntwo\nthree\nfour\nfive\n"


def in_conflict(mesh: Mesh, one: str, other: str, *, base: str = BASE, relay: bool = False) -> list[Device]:
    """Return two devices with `plan.txt` in conflict: what `one` and `other` wrote of `base`."""
    devices = mesh.pair(["laptop", "desk"], relay=relay)
    write(devices[0].tree / "plan.txt", base)
    settle(devices, durable=relay)
    texts = {"laptop": one, "desk": other}
    apart(devices, [lambda root, text=texts[d.name]: write(root / "plan.txt", text) for d in devices])  # type: ignore[misc]
    settle(devices, durable=relay)
    return devices


def conflict(device: Device) -> dict[str, Any]:
    (found,) = device.cli("conflicts", code=CONFLICTS_PRESENT)["conflicts"]
    assert isinstance(found, dict)
    return found


def resolve(device: Device, keep: str, *words: str, path: str = "plan.txt", code: int = 0) -> dict[str, Any]:
    return device.cli("resolve", str(device.tree / path), "--keep", keep, *words, code=code)


def undo(device: Device, done: dict[str, Any]) -> None:
    assert done["undo"]
    for command in done["undo"]:
        program, *words = shlex.split(command)
        assert program == "meshsync"
        device.cli(*words)


def text(device: Device, name: str = "plan.txt") -> str:
    return (device.tree / name).read_text()


def test_conflicts_tell_both_versions_and_what_they_came_from(mesh: Mesh) -> None:
    laptop, desk = in_conflict(mesh, "by laptop", "by the desk", relay=True)
    for device in (laptop, desk):
        found = conflict(device)
        (copy,) = found["copies"]
        assert {found["device"], copy["device"]} == {"laptop", "desk"}
        assert {found["device"]: found["size"], copy["device"]: copy["size"]} == {"laptop": 9, "desk": 11}
        assert found["root"] == str(device.tree) and found["time"] and copy["time"]
        listed = device.cli("log", str(device.tree / "plan.txt"))["versions"]
        assert found["base"] == min(listed, key=lambda version: int(version["n"]))["id"]
        assert device.cli("conflicts", device.folder()["id"], code=CONFLICTS_PRESENT)["conflicts"] == [found]


@pytest.mark.parametrize("keep", ["mine", "theirs"])
@pytest.mark.parametrize("relay", [False, True])
def test_one_version_stays_everywhere_and_the_other_comes_back_by_the_undo(mesh: Mesh, keep: str, relay: bool) -> None:
    devices = in_conflict(mesh, "by laptop", "by desk", relay=relay)
    laptop = devices[0]
    mine, copy = text(laptop), text(laptop, conflict(laptop)["copies"][0]["path"])
    stays, lost = (mine, copy) if keep == "mine" else (copy, mine)
    done = resolve(laptop, keep)
    assert done["now"] == [str(laptop.tree / "plan.txt")]
    settle(devices)
    for device in devices:
        assert values(device.tree) == [stays]
        assert device.cli("conflicts")["conflicts"] == []
        assert device.cli("why", str(device.tree / "plan.txt"))["state"] in ("in sync", "not durable")
    assert not laptop.strays()
    undo(laptop, done)
    settle(devices)
    assert lost in values(devices[1].tree)


def test_both_become_ordinary_files_with_plain_names(mesh: Mesh) -> None:
    devices = in_conflict(mesh, "by laptop", "by desk")
    found = conflict(devices[1])
    done = resolve(devices[1], "both")
    plain = f"plan ({found['copies'][0]['device']}).txt"
    assert done["now"] == [str(devices[1].tree / name) for name in ("plan.txt", plain)]
    settle(devices)
    for device in devices:
        assert sorted(os.listdir(device.tree)) == [".meshsync", plain, "plan.txt"]
        assert values(device.tree) == ["by desk", "by laptop"]
        assert device.folder()["conflicts"] == 0


def test_texts_are_merged_from_what_both_came_from_and_the_merge_can_be_undone(mesh: Mesh) -> None:
    one, other = BASE.replace("one", "ONE"), BASE.replace("five", "FIVE")
    devices = in_conflict(mesh, one, other, relay=True)
    done = resolve(devices[0], "merged")
    settle(devices)
    merged = BASE.replace("one", "ONE").replace("five", "FIVE")
    assert [values(device.tree) for device in devices] == [[merged], [merged]]
    undo(devices[0], done)
    settle(devices)
    assert values(devices[1].tree) == sorted([one, other])


def test_a_merge_that_clashes_changes_nothing_and_is_written_elsewhere(mesh: Mesh, tmp_path: Path) -> None:
    devices = in_conflict(mesh, BASE.replace("two", "II"), BASE.replace("two", "zwei"), relay=True)
    before = values(devices[0].tree)
    resolve(devices[0], "merged", code=CONFLICTS_PRESENT)
    assert values(devices[0].tree) == before and devices[0].folder()["conflicts"] == 1
    aside = tmp_path / "merged.txt"
    assert resolve(devices[0], "merged", "--to", str(aside))["clashes"] == 1
    assert all(line in aside.read_text().splitlines() for line in ("II", "zwei", "two", "=======", "five"))
    resolve(devices[0], "merged", "--to", str(aside), code=USAGE)
    assert values(devices[0].tree) == before


def test_what_has_no_common_base_is_not_merged(mesh: Mesh) -> None:
    devices = mesh.pair(["laptop", "desk"], relay=False)
    settle(devices)
    apart(devices, [lambda root: write(root / "plan.txt", "one"), lambda root: write(root / "plan.txt", "other")])
    settle(devices)
    before = values(devices[0].tree)
    resolve(devices[0], "merged", code=CONFLICTS_PRESENT)
    assert values(devices[0].tree) == before
    resolve(devices[0], "theirs")
    settle(devices)
    assert len(values(devices[1].tree)) == 1


def test_a_copy_may_be_named_and_of_several_it_must_be(mesh: Mesh) -> None:
    devices = mesh.pair(["laptop", "desk", "phone"], relay=False)
    write(devices[0].tree / "plan.txt", BASE)
    settle(devices)
    apart(devices, [lambda root, name=d.name: write(root / "plan.txt", name) for d in devices])  # type: ignore[misc]
    settle(devices)
    resolve(devices[0], "theirs", code=USAGE)
    copies = [copy["path"] for copy in conflict(devices[0])["copies"]]
    gone = text(devices[0], copies[0])
    resolve(devices[0], "mine", path=copies[0])
    settle(devices)
    assert [copy["path"] for copy in conflict(devices[2])["copies"]] == copies[1:]
    assert len(values(devices[2].tree)) == 2 and gone not in values(devices[2].tree)
    resolve(devices[2], "mine")
    settle(devices)
    assert len(values(devices[0].tree)) == 1
    resolve(devices[0], "mine", code=NOT_FOUND)


def test_the_path_is_never_absent_while_theirs_takes_it(mesh: Mesh) -> None:
    devices = in_conflict(mesh, "m" * 3_000_000, "t" * 4_000_000)
    path, absent, looks, ended = devices[0].tree / "plan.txt", [], 0, threading.Event()

    def watch() -> None:
        nonlocal looks
        while not ended.is_set():
            looks += 1
            if not path.exists():
                absent.append(looks)

    watcher = threading.Thread(target=watch)
    watcher.start()
    resolve(devices[0], "theirs")
    ended.set()
    watcher.join()
    assert looks and not absent
    settle(devices)


def test_a_restart_right_after_it_loses_nothing(mesh: Mesh) -> None:
    devices = in_conflict(mesh, "by laptop", "by desk")
    stays = text(devices[0], conflict(devices[0])["copies"][0]["path"])
    resolve(devices[0], "theirs")
    devices[0].kill9()
    devices[0].up()
    settle(devices)
    assert [values(device.tree) for device in devices] == [[stays], [stays]]


def test_a_pause_outlives_a_restart_and_a_wait_does_not_call_it_in_sync(mesh: Mesh) -> None:
    laptop, desk = devices = mesh.pair(["laptop", "desk"], relay=False)
    write(laptop.tree / "note", "before")
    settle(devices)
    laptop.cli("pause", str(laptop.tree))
    laptop.down()
    laptop.up()
    write(laptop.tree / "note", "after")
    laptop.rescan()
    assert laptop.folder()["state"] == "paused"
    assert laptop.cli("why", str(laptop.tree / "note"))["state"] == "paused"
    laptop.cli("wait", "--timeout", "0.5", code=TIMEOUT)
    assert text(desk, "note") == "before"
    laptop.cli("resume", str(laptop.tree))
    laptop.down()
    laptop.up()
    settle(devices)
    assert text(desk, "note") == "after"


def test_why_says_what_a_path_waits_for_and_what_to_do(mesh: Mesh) -> None:
    laptop, desk = devices = in_conflict(mesh, "by laptop", "by desk", relay=True)

    def why(device: Device, name: str) -> dict[str, Any]:
        found = device.cli("why", str(device.tree / name))
        assert found["explanation"].endswith(".") and found["state"]
        return found

    (copy,) = conflict(laptop)["copies"]
    for name in ("plan.txt", copy["path"]):
        assert why(laptop, name)["state"] == "conflict" and "meshsync resolve" in why(laptop, name)["next"]
    write(laptop.tree / "done", "done")
    settle(devices, durable=True)
    assert why(desk, "done")["state"] == "in sync" and why(desk, "done")["device"] == "laptop"
    (desk.tree / "done").unlink()
    settle(devices)
    gone = why(laptop, "done")
    assert gone["state"] == "deleted" and "desk" in gone["explanation"] and "restore" in gone["next"]
    assert why(laptop, "never")["state"] == "unknown"
    write(laptop.tree / ".meshignore", "*.tmp\n")
    write(laptop.tree / "x.tmp", "x")
    settle_but(devices, "x.tmp")
    assert why(laptop, "x.tmp")["state"] == "ignored" and ".meshignore" in why(laptop, "x.tmp")["next"]
    os.mkfifo(laptop.tree / "pipe")
    laptop.rescan()
    assert why(laptop, "pipe")["state"] == "not observed"
    mesh.relay.down()
    write(laptop.tree / "later", "later")
    until((desk.tree / "later").exists, laptop.status)
    until(lambda: why(laptop, "later")["state"] == "not durable", lambda: why(laptop, "later"))


def settle_but(devices: list[Device], name: str) -> None:
    for device in devices:
        device.rescan()
        device.wait()
    assert not (devices[1].tree / name).exists()


def test_why_names_who_has_the_content_that_is_waited_for(mesh: Mesh) -> None:
    laptop, desk = devices = mesh.pair(["laptop", "desk"], relay=True)
    settle(devices)
    desk.kill9()
    laptop.cli("pause")  # so the relay gets nothing of what follows before it is gone
    write(laptop.tree / "big", os.urandom(30_000_000).hex())
    laptop.rescan()
    laptop.cli("resume")
    until(lambda: laptop.folder()["not_durable"] > 0, laptop.status)
    desk.up()
    until(lambda: bool(desk.status()["folders"]) and desk.folder()["pending"]["fetch"] > 0, desk.status)
    laptop.kill9()
    mesh.relay.kill9()
    until(lambda: not any(d["path"] != "offline" for d in desk.status()["devices"]), desk.status)
    until(lambda: not any(relay["connected"] for relay in desk.status()["relays"]), desk.status)
    found = desk.cli("why", str(desk.tree / "big"))
    assert found["state"] == "waiting for content" and found["waits_for"] == "laptop"
    assert "laptop" in found["next"]


def test_why_tells_of_a_disk_that_cannot_take_a_file(mesh: Mesh) -> None:
    laptop, desk = devices = mesh.pair(["laptop", "desk"], relay=False)
    settle(devices)
    resource.prlimit(desk.pid, resource.RLIMIT_FSIZE, (16 << 20, resource.RLIM_INFINITY))
    with (laptop.tree / "big").open("wb") as file:
        file.truncate(32 << 20)
    laptop.rescan()

    def why() -> dict[str, Any]:
        return desk.cli("why", str(desk.tree / "big"))

    until(lambda: why()["state"] == "blocked", why)
    found = why()
    assert found["waits_for"] and found["waits_for"] in found["explanation"] and found["next"]
    assert desk.folder()["state"] != "in sync" and not desk.status()["idle"]
    resource.prlimit(desk.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    settle(devices)
    assert why()["state"] == "in sync"


def test_why_tells_of_a_held_change_where_it_is_held(mesh: Mesh) -> None:
    laptop, desk = devices = mesh.pair(["laptop", "desk"], relay=False)
    for number in range(20):
        write(laptop.tree / f"file {number}", f"text {number}")
    settle(devices)
    for path in laptop.tree.glob("file *"):
        path.unlink()
    laptop.rescan()
    until(lambda: bool(laptop.cli("held")["held"]), laptop.status)
    name = laptop.cli("held")["held"][0]["examples"][0]  # a few may have gone before the brake was on
    found = laptop.cli("why", str(laptop.tree / name))
    assert found["state"] == "held" and "meshsync held" in found["next"]
    assert desk.cli("why", str(desk.tree / name))["state"] == "in sync", "nobody was told"
