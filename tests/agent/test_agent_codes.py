"""Pairing by a short code, on real agents over links in memory (promise B14)."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.errors import CodeInvalid
from tests.support.pairing_mesh import open_mesh


async def test_a_code_pairs_on_the_lan_without_a_relay(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        (laptop.tree / "note").write_bytes(b"hello")
        joined = await desk.join((await laptop.share()).code)
        assert (joined.device, joined.files) == ("laptop", 1)
        assert desk.files() == laptop.files() == {"note": b"hello"}


async def test_wrong_words_end_the_code(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        code = (await laptop.share()).code
        wrong = "-".join([*code.split("-")[:3], "zoo" if not code.endswith("-zoo") else "zone"])
        with pytest.raises(CodeInvalid, match="wrong, was used already, or has expired"):
            await desk.join(wrong)
        assert [told.code.text for told in laptop.agent.codes.tried_in_vain()] == [code]


async def test_a_code_pairs_through_a_relay_that_both_know(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        await mesh.start_relay()
        laptop, desk = await mesh.start("laptop", on_lan=False), await mesh.start("desk", on_lan=False)
        (laptop.tree / "note").write_bytes(b"hello")
        joined = await desk.join((await laptop.share()).code)
        assert (joined.device, joined.route) == ("laptop", "relay")
        assert desk.files() == {"note": b"hello"}
