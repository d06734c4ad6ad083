"""A user who acts while the agent works loses nothing and is heard (P1, P5, P13): a sample of all moments."""

from __future__ import annotations

import pytest

from tests.sim.user_points import INTERRUPTED, Moment, moments, run_moment

EACH = 6  # moments of each scenario

FOUND = (
    Moment("apply an exec bit", 10, "save", 0),  # written to after chmod: the stat that came back hid it
    Moment("apply an exec bit", 9, "touch", 0),
)


@pytest.mark.parametrize("moment", FOUND, ids=str)
def test_moments_that_once_failed(moment: Moment) -> None:
    assert run_moment(moment) == ""


@pytest.mark.parametrize("name", INTERRUPTED)
def test_whatever_a_user_does_while_an_agent_works_is_heard(name: str) -> None:
    every = moments(name, draws=1)
    step = max(1, len(every) // EACH) + 1  # odd steps meet all acts
    assert [why for moment in every[::step] if (why := run_moment(moment))] == []
