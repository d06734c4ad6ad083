"""The whole of the real input: a library tree, 10,000 small files and one large one, on three devices and a relay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.real.agents import settle, start_agent, start_relay
from tests.real.netns import Lan
from tests.real.trees import MIB, compare_trees, incompressible, small_files, standard_library

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
LARGE_MIB = int(os.environ.get("MESHSYNC_LARGE_MIB", "1024"))


def test_everything_arrives_everywhere_and_is_durable(lan: Lan, tmp_path: Path) -> None:
    relay = start_relay(lan, tmp_path)
    laptop, desk, phone = (start_agent(lan, name, tmp_path, "--relay", relay) for name in ("laptop", "desk", "phone"))
    standard_library(laptop.tree)
    small_files(laptop.tree / "small", count=10_000)
    incompressible(laptop.tree / "large.bin", LARGE_MIB * MIB)
    started = time.monotonic()
    for newcomer in (desk, phone):
        ticket = laptop("share", str(laptop.tree), timeout_s=600)["ticket"]
        newcomer("join", ticket, str(newcomer.tree), "--no-wait")
    settle([laptop, desk, phone], durable=True)
    print(f"three devices and the relay complete after {time.monotonic() - started:.0f} s")
    assert compare_trees(laptop.tree, phone.tree) == []
    for agent in (laptop, desk, phone):
        assert agent("status")["folders"][0]["state"] == "in sync"
        agent("down")
