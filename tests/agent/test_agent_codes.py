"""Pairing by a short code, on real agents over links in memory (promise B14)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pairing_mesh import open_mesh


async def test_a_code_pairs_on_the_lan_without_a_relay(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        (laptop.tree / "note").write_bytes(b"hello")
        joined = await desk.join((await laptop.share()).code)
        assert (joined.device, joined.files) == ("laptop", 1)
        assert desk.files() == laptop.files() == {"note": b"hello"}


async def test_a_code_pairs_through_a_relay_that_both_know(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        await mesh.start_relay()
        laptop, desk = await mesh.start("laptop", on_lan=False), await mesh.start("desk", on_lan=False)
        (laptop.tree / "note").write_bytes(b"hello")
        joined = await desk.join((await laptop.share()).code)
        assert (joined.device, joined.route) == ("laptop", "relay")
        assert desk.files() == {"note": b"hello"}


async def test_a_code_pairs_at_an_address_without_any_discovery(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop", on_lan=False), await mesh.start("desk", on_lan=False)
        (laptop.tree / "note").write_bytes(b"hello")
        shared = await laptop.share()
        await desk.join(shared.code, address=laptop.address)
        assert desk.files() == {"note": b"hello"} and len(shared.addresses) > 0


async def test_devices_that_share_a_folder_pair_another_over_their_link(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        await desk.join((await laptop.share()).code)
        laptop.tree, desk.tree = tmp_path / "second here", tmp_path / "second there"
        laptop.tree.mkdir()
        (laptop.tree / "note").write_bytes(b"more")
        await desk.join((await laptop.share()).code)
        assert desk.files() == {"note": b"more"} and len(desk.agent.links.all()) == 1


async def test_a_slot_is_given_back_when_its_code_ends(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        relay = await mesh.start_relay()
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        await mesh.until(lambda: all(client.link for client in laptop.agent.relays.values()))
        code = (await laptop.share()).code
        assert len(relay._core.slots) == 1
        await desk.join(code)
        await mesh.until(lambda: len(relay._core.slots) == 0)


@pytest.mark.slow
async def test_a_relay_that_comes_back_gets_the_slot_of_an_open_code_again(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        relay = await mesh.start_relay()
        laptop, desk = await mesh.start("laptop", on_lan=False), await mesh.start("desk", on_lan=False)
        await mesh.until(lambda: all(client.link for client in laptop.agent.relays.values()))
        code = (await laptop.share()).code
        for client in laptop.agent.relays.values():
            assert client.link is not None
            client.link.close("the line broke")
        await mesh.until(lambda: len(relay._core.slots) == 0)
        joined = await desk.join(code)
        assert joined.route == "relay"
