"""What counts as made by a moment holds the past of all that is in it, whatever clocks say (P17)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshsync.ids import EntryId
from meshsync.sync.moments import Linked, Moments, past_of

NOW = 1000
YEARS = 10**9


def entry(number: int, *past: int) -> Linked:
    return Linked(name(number), tuple(map(name, past)))


def name(number: int) -> EntryId:
    return EntryId(number.to_bytes(32, "big"))


logs = st.lists(st.tuples(st.sets(st.integers(0, 30), max_size=3), st.integers(-YEARS, YEARS)), max_size=30).map(
    lambda drawn: [
        (entry(number, *(other for other in past if other < number)), time) for number, (past, time) in enumerate(drawn)
    ]
)


@given(logs, st.integers(-YEARS, YEARS))
def test_what_is_made_by_a_moment_holds_all_that_it_names(log: list[tuple[Linked, int]], moment: int) -> None:
    moments = Moments(NOW)
    made = {item.id for item, time in log if moments.add(item, time) <= moment}
    assert all(set(item.past) <= made for item, _ in log if item.id in made)


@given(logs)
def test_the_past_of_an_entry_is_all_that_it_names_and_so_on(log: list[tuple[Linked, int]]) -> None:
    entries = [item for item, _ in log]
    by_id = {item.id: item for item in entries}
    for item in entries:
        past, due = set(), list(item.past)
        while due:
            one = due.pop()
            past.add(one)
            due += by_id[one].past
        assert past_of(entries, item.id) == past
    assert past_of(entries, name(99)) == set()


def test_a_slow_clock_puts_an_entry_after_what_it_followed_and_a_fast_one_holds_back_nothing() -> None:
    moments = Moments(NOW)
    assert moments.add(entry(0), 500) == 500
    assert moments.add(entry(1, 0), -YEARS) == 500
    assert moments.add(entry(2, 1), YEARS) == 500
    assert moments.add(entry(3, 2), 700) == 700
