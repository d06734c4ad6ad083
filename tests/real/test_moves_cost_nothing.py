"""Copies and renames: no content on the wire, one operation, seconds."""

from __future__ import annotations

import shutil
import time

import pytest

from tests.real.trees import MIB, incompressible
from tests.support.real_mesh import Mesh, settle

pytestmark = pytest.mark.slow
MANY_FILES = 10_000
RENAME_TIMEOUT_S = 20.0
WIRE_BYTES_MAX = 256 * 1024


@pytest.mark.parametrize("relay", [False, True], ids=["lan", "relay"])
def test_a_copied_file_moves_no_content(mesh: Mesh, relay: bool) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=relay)
    incompressible(laptop.tree / "big.bin", 16 * MIB)
    settle([laptop, desk], durable=relay)
    fetched, wire = desk.fetched(), laptop.wire()
    shutil.copy2(laptop.tree / "big.bin", laptop.tree / "copy.bin")
    settle([laptop, desk], durable=relay)
    assert desk.fetched() == fetched
    assert laptop.wire() - wire <= WIRE_BYTES_MAX


def test_a_renamed_directory_of_many_files_is_one_operation_and_takes_seconds(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    for number in range(MANY_FILES):
        directory = laptop.tree / f"photos/{number % 50}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}.txt").write_text(f"the content of {number}")
    settle([laptop, desk], durable=True, timeout_s=300)
    fetched, wire = desk.fetched(), laptop.wire()
    versions = laptop.folder()["versions"]
    began = time.monotonic()
    (laptop.tree / "photos").rename(laptop.tree / "pictures")
    settle([laptop, desk], timeout_s=RENAME_TIMEOUT_S)
    assert time.monotonic() - began < RENAME_TIMEOUT_S
    assert desk.fetched() == fetched
    assert laptop.wire() - wire <= WIRE_BYTES_MAX
    assert laptop.folder()["versions"] == desk.folder()["versions"] == versions + 1
    newest = desk.versions()[0]
    assert (newest["change"], newest["path"]) == ("renamed", "pictures")


def test_a_renamed_file_keeps_its_history(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=False)
    (laptop.tree / "draft").write_text("one")
    settle([laptop, desk])
    (laptop.tree / "draft").rename(laptop.tree / "final")
    settle([laptop, desk])
    changes = [row["change"] for row in desk.cli("log", str(desk.tree / "final"))["versions"]]
    assert changes == ["renamed", "created"]
