"""What a relay is given first, and that it is given all: a small save does not wait behind a large file."""

from __future__ import annotations

import pytest

from meshsync.limits import CHUNK_SIZE_BYTES_MEAN, UPLOAD_PARTS_GROUPS_MAX, UPLOAD_PARTS_PIECES
from tests.real.trees import incompressible
from tests.support.real_mesh import Mesh, until

pytestmark = pytest.mark.slow
TURN_BYTES = UPLOAD_PARTS_GROUPS_MAX * UPLOAD_PARTS_PIECES * CHUNK_SIZE_BYTES_MEAN


def test_a_small_save_is_durable_before_a_file_of_several_turns(mesh: Mesh) -> None:
    mesh.relay.up()
    laptop = mesh.add("laptop")
    incompressible(laptop.tree / "large.bin", 2 * TURN_BYTES)
    laptop.share()
    until(lambda: laptop.folder()["not_durable"] == 1, laptop.folder)
    (laptop.tree / "note").write_text("small")
    until(lambda: (laptop.folder()["versions"], laptop.folder()["not_durable"]) == (2, 1), laptop.folder)
    assert laptop.wire() < 2 * TURN_BYTES, "what is durable is not the large file"
    laptop.wait(durable=True)
    assert laptop.folder()["not_durable"] == 0
