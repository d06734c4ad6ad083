"""What waits on this disk is told with what helps."""

from __future__ import annotations

import pytest

from meshsync.agent.status_report import help_for
from meshsync.folder.types import Reason


@pytest.mark.parametrize("reason", Reason)
def test_whatever_a_change_waits_for_the_user_is_told_what_to_do(reason: Reason) -> None:
    assert help_for(reason.value, (b"dir", b"note"))


def test_where_the_disk_is_full_it_is_room_that_helps() -> None:
    assert "room" in help_for(f"{Reason.NO_SPACE.value}: 3 MiB are needed", (b"note",))
