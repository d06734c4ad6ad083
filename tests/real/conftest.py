"""Skipping what this machine cannot run, unless MESHSYNC_REQUIRE=1 turns that into failure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.netns import Lan, missing
from tests.support.real_mesh import Mesh


@pytest.fixture
def lan() -> Iterator[Lan]:
    """A LAN of three devices and a relay."""
    why = missing()
    if why and os.environ.get("MESHSYNC_REQUIRE") == "1":
        pytest.fail(f"MESHSYNC_REQUIRE=1, but this machine {why}")
    if why:
        pytest.skip(why)
    with Lan(["laptop", "desk", "phone", "relay"]) as made:
        yield made


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """Processes on loopback, ended afterwards."""
    with Mesh(tmp_path) as made:
        yield made
