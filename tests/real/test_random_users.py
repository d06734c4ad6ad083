"""P1, P2, P7, P8, P10 on real agents and a real relay: `random_users.py` for a short while, with fixed seeds.

A failure names the seed and the history file. The long run is `python -m tests.real.random_users --minutes 60`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.real.random_users import run

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("MESHSYNC_TEST_USERS_SECONDS", "15"))  # for each seed; a round that began is ended
ACTS_MIN = 8


@pytest.mark.parametrize("seed", [1, 36])
def test_every_value_is_accounted_for(tmp_path: Path, seed: int) -> None:
    end = time.monotonic() + SECONDS
    counts = run(tmp_path, seed, lambda counts: counts.rounds == 0 or time.monotonic() < end, relay_killed=0.0)
    assert counts.acts.total() >= ACTS_MIN and counts.values, "too little happened to show anything"
