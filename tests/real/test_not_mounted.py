"""A disk that is not mounted when the agent starts is waited for: nothing of it is written off (P9, P14)."""

from __future__ import annotations

import pytest

from tests.support.real_mesh import Mesh, differences, settle, until

pytestmark = pytest.mark.slow
FILES = 50


def test_what_was_not_uploaded_when_the_disk_went_away_is_uploaded_when_it_is_back(mesh: Mesh) -> None:
    mesh.relay.up()
    laptop, desk = mesh.add("laptop"), mesh.add("desk")
    ticket = laptop.share()
    desk.join(ticket)
    settle([laptop, desk], durable=True)
    desk.down()
    mesh.relay.down()
    for number in range(FILES):
        (laptop.tree / f"{number}.txt").write_text(f"content {number}")
    laptop.rescan()
    until(lambda: laptop.folder()["not_durable"] == FILES, laptop.folder)
    laptop.down()
    away = laptop.tree.rename(laptop.tree.with_name("away"))
    mesh.relay.up()
    laptop.up()
    until(lambda: laptop.status()["relays"][0]["connected"], laptop.status)
    until(lambda: laptop.wire() > 0 and laptop.folder()["state"] == "error", laptop.status)
    assert laptop.folder()["not_durable"] == FILES
    away.rename(laptop.tree)
    laptop.wait(durable=True)
    laptop.down()
    desk.up()
    settle([desk])
    assert differences([laptop, desk]) == []
