"""Promise B24: every device lost, a relay and the words of a recovery sheet bring all folders back, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshsync.content.recovery_sheet import sheet_words
from tests.real.trees import compare_trees
from tests.support.real_mesh import Device, Mesh, settle, until

pytestmark = pytest.mark.slow


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Mesh(tmp_path) as made:
        made.relay.up()
        yield made


def fill(tree: Path) -> None:
    """Write files of several chunks, empty and odd ones, a link, an exec bit, an empty directory."""
    tree.mkdir(parents=True, exist_ok=True)
    (tree / "large").write_bytes(os.urandom(3 << 20))
    (tree / "empty").touch()
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/er/text").write_text("the only copy\n")
    os.symlink("deep/er/text", tree / "link")
    (tree / "tool").write_text("#!/bin/sh\n")
    (tree / "tool").chmod(0o755)
    (tree / "nothing in it").mkdir()
    os.utime(tree / "empty", ns=(10**18, 10**18 + 123456789))


def sheet_of(device: Device, *words: str) -> str:
    return " ".join(device.cli("recovery", "sheet", *words)["words"])


def states(device: Device) -> dict[str, str]:
    return {folder["name"]: folder["state"] for folder in device.cli("recovery", "status")["folders"]}


def ready(device: Device, *names: str) -> None:
    until(lambda: states(device) == dict.fromkeys(names, "ready"), lambda: (names, states(device)))


def blank(mesh: Mesh, name: str) -> Device:
    """Start an agent that knows nothing: no relay, no folder."""
    device = Device(name, mesh.directory, ())
    mesh.devices.append(device)
    device.up()
    return device


def recover(device: Device, words: str, url: str, target: Path, code: int = 0) -> dict[str, Any]:
    return device.cli("recover", words, str(target), "--relay", url, code=code)


class TestEverythingLost:
    def test_relay_and_words_bring_all_back_until_a_second_source_agrees_unverified(self, mesh: Mesh) -> None:
        laptop = mesh.add("laptop")
        fill(laptop.tree)
        laptop.share()
        words = sheet_of(laptop)
        later = mesh.directory / "trees/later"  # shared after the sheet was made: its words are gone by then
        fill(later)
        laptop.cli("share", str(later))
        ready(laptop, "laptop", "later")
        laptop.wait(durable=True)
        laptop.down()

        found, target = blank(mesh, "new"), mesh.directory / "recovered"
        recovered = recover(found, words, mesh.relay.url, target)
        assert {one["name"] for one in recovered["folders"]} == {"laptop", "later"}
        assert all(one["freshness_unverified"] for one in recovered["folders"]) and recovered["failed"] == []
        assert compare_trees(laptop.tree, target / "laptop") == []
        assert compare_trees(later, target / "later") == []
        status = found.status()
        assert [folder["freshness_unverified"] for folder in status["folders"]] == [True, True]
        assert [folder["role"] for folder in status["folders"]] == ["owner", "owner"]
        told = [item["what"] for item in status["health"]]
        assert {"laptop: freshness unverified", "later: freshness unverified"} <= set(told)

        found.down()
        found.up()  # it is not forgotten
        assert [folder["freshness_unverified"] for folder in found.status()["folders"]] == [True, True]

        laptop.up()  # it was lost, and is found again: a second source

        def unverified() -> set[str]:
            return {one["name"] for one in found.status()["folders"] if one["freshness_unverified"]}

        (laptop.tree / "before").write_text("signed by a device that knows of the new one")
        until(lambda: unverified() == {"later"}, found.status)
        other = mesh.directory / "trees/other"
        other.mkdir()
        found.cli("join", laptop.cli("share", str(other))["ticket"], str(target / "other"))  # now they are linked
        until(lambda: unverified() == set(), found.status)
        assert not any("freshness" in item["what"] for item in found.status()["health"])
        found.down()
        found.up()
        assert unverified() == set()
        (target / "laptop/after").write_text("both go on")
        until((laptop.tree / "after").exists, laptop.status)

    def test_what_the_relay_did_not_have_comes_from_a_device_that_is_found_again(self, mesh: Mesh) -> None:
        laptop = mesh.add("laptop")
        fill(laptop.tree)
        laptop.share()
        words = sheet_of(laptop)
        ready(laptop, "laptop")
        laptop.wait(durable=True)
        mesh.relay.down()
        (laptop.tree / "deep/er/text").write_text("the last word\n")
        laptop.rescan()
        laptop.wait()
        laptop.down()
        mesh.relay.up()

        found, target = blank(mesh, "new"), mesh.directory / "recovered"
        (folder,) = recover(found, words, mesh.relay.url, target)["folders"]
        text = target / "laptop/deep/er/text"
        assert folder["freshness_unverified"] and text.read_text() == "the only copy\n"
        laptop.up()
        until(lambda: text.read_text() == "the last word\n", found.status)
        assert found.folder()["freshness_unverified"], "it was signed before its author knew of the new device"
        (laptop.tree / "one more").write_text("signed since")
        until(lambda: not found.folder()["freshness_unverified"], found.status)

    def test_a_second_recovery_does_no_harm_and_proves_nothing(self, mesh: Mesh) -> None:
        laptop = mesh.add("laptop")
        fill(laptop.tree)
        laptop.share()
        words = sheet_of(laptop)
        ready(laptop, "laptop")
        laptop.wait(durable=True)
        laptop.down()
        first, second = blank(mesh, "first"), blank(mesh, "second")
        a, b = mesh.directory / "a", mesh.directory / "b"
        recover(first, words, mesh.relay.url, a)
        recover(second, words, mesh.relay.url, b)
        again = recover(first, words, mesh.relay.url, mesh.directory / "c")
        assert again["already"] == ["laptop"] and again["folders"] == []
        assert compare_trees(laptop.tree, a / "laptop") == compare_trees(laptop.tree, b / "laptop") == []
        (a / "laptop/one").write_text("1")
        (b / "laptop/two").write_text("2")
        until(lambda: (a / "laptop/two").exists() and (b / "laptop/one").exists(), first.status)
        assert first.folder()["freshness_unverified"] and second.folder()["freshness_unverified"]
        members = first.cli("members", "laptop")["members"]
        assert sorted(one["name"] for one in members if not one["kept_offline"]) == ["first", "laptop", "second"]

    def test_a_key_that_changed_after_the_sheet_was_made_opens_too(self, mesh: Mesh) -> None:
        laptop, phone = mesh.pair(["laptop", "phone"], relay=False)
        fill(laptop.tree)
        words = sheet_of(laptop)
        settle([laptop, phone])
        laptop.cli("remove", "laptop", "phone", "--yes")
        (laptop.tree / "secret").write_text("written under the new key")
        ready(laptop, "laptop")
        laptop.rescan()
        laptop.wait(durable=True)
        laptop.down()
        found = blank(mesh, "new")
        recover(found, words, mesh.relay.url, mesh.directory / "back")
        assert compare_trees(laptop.tree, mesh.directory / "back/laptop") == []


class TestTheSheet:
    def test_members_show_it_as_what_it_is_and_nobody_waits_for_it(self, mesh: Mesh) -> None:
        laptop = mesh.add("laptop")
        fill(laptop.tree)
        laptop.share()
        sheet_of(laptop)
        ready(laptop, "laptop")
        (sheet,) = (one for one in laptop.cli("members", "laptop")["members"] if one["kept_offline"])
        assert sheet["name"] == "recovery sheet of laptop" and sheet["role"] == "owner" and sheet["seen"] is None
        assert laptop.status()["devices"] == []
        laptop.wait(durable=True)

    def test_a_new_one_ends_the_old_one(self, mesh: Mesh) -> None:
        laptop = mesh.add("laptop")
        fill(laptop.tree)
        laptop.share()
        old = sheet_of(laptop)
        laptop.cli("recovery", "sheet", code=2)  # there is one
        new = sheet_of(laptop, "--new")
        ready(laptop, "laptop")
        laptop.wait(durable=True)
        laptop.down()
        found = blank(mesh, "new")
        recover(found, old, mesh.relay.url, mesh.directory / "old", code=1)
        assert found.status()["folders"] == []
        recover(found, new, mesh.relay.url, mesh.directory / "new")
        assert compare_trees(laptop.tree, mesh.directory / "new/laptop") == []

    def test_it_stays_when_sharing_ends_and_is_nobody_who_goes_on_with_a_folder(self, mesh: Mesh) -> None:
        laptop, phone = mesh.pair(["laptop", "phone"], relay=False)
        words = sheet_of(laptop)
        fill(laptop.tree)
        laptop.cli("leave", "laptop", "--yes", code=1)  # phone is no owner, and the sheet cannot act
        laptop.cli("unshare", "laptop", "--yes")
        names = {one["name"] for one in laptop.cli("members", "laptop")["members"]}
        assert names == {"laptop", "recovery sheet of laptop"}
        ready(laptop, "laptop")
        laptop.rescan()
        laptop.wait(durable=True)
        phone.down()
        laptop.cli("leave", "laptop", "--yes")  # nobody else shares it
        laptop.down()
        found = blank(mesh, "new")
        recover(found, words, mesh.relay.url, mesh.directory / "back")
        assert compare_trees(laptop.tree, mesh.directory / "back/laptop") == []

    def test_its_words_are_nowhere(self, mesh: Mesh) -> None:
        laptop = mesh.add("laptop")
        fill(laptop.tree)
        laptop.share()
        words = sheet_of(laptop).split()
        ready(laptop, "laptop")
        laptop.down()
        run = [" ".join(words[at : at + 3]).encode() for at in range(len(words) - 2)]
        kept = [path for path in mesh.directory.rglob("*") if path.is_file()]
        assert laptop.home.recovery_sheet in kept
        assert [path for path in kept if any(three in path.read_bytes() for three in run)] == []


class TestWrongWords:
    def test_are_refused_before_anything_is_sent_or_made(self, mesh: Mesh) -> None:
        nobody = Device("nobody", mesh.directory, ())
        good = sheet_words(bytes(range(32)))
        swapped = " ".join((good[1], good[0], *good[2:]))
        for wrong in (swapped, " ".join(good[:-1]), " ".join((*good[:-1], "meshsync"))):
            recover(nobody, wrong, mesh.relay.url, mesh.directory / "x", code=1)
        assert not nobody.home.path.exists()

    def test_words_that_no_folder_knows_find_nothing(self, mesh: Mesh) -> None:
        laptop = mesh.add("laptop")
        fill(laptop.tree)
        laptop.share()
        found = blank(mesh, "new")
        recover(found, " ".join(sheet_words(bytes(32))), mesh.relay.url, mesh.directory / "x", code=1)
        assert found.status()["folders"] == [] and not (mesh.directory / "x").exists()
