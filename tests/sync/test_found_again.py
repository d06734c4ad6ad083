"""What its user removed and made again is the user's new work, whatever others show in its place by then (P1, P4)."""

from __future__ import annotations

from tests.model.device_model import file
from tests.sync.device_twin import DeviceTwin, exchange, settle
from tests.sync.test_mtimes import F, contents, is_at_rest, pair


def edited_while_removed() -> tuple[DeviceTwin, DeviceTwin]:
    """One device removed a file while the other one edited it, and has heard of the edit, which is not applied yet."""
    one, other = pair((F, file(1)))
    one.disk.delete(F)
    one.publish()
    other.disk.write(F, file(2))
    other.publish()
    return one, other


def test_a_file_that_comes_back_with_the_content_that_was_removed_is_not_replaced_by_another_ones() -> None:
    one, other = DeviceTwin(1), DeviceTwin(2)
    one.disk.write(F, file(1))
    other.disk.write(F, file(2))
    one.publish()
    other.receive(one.log)
    other.publish()
    one.disk.delete(F)
    one.publish()
    one.receive(other.log)
    one.disk.write(F, file(1))
    settle(one, other)
    assert set(contents(one).values()) == set(contents(other).values()) == {file(1), file(2)}
    assert is_at_rest(one, other)


def test_an_older_copy_of_what_an_edit_replaced_is_still_taken_for_what_it_is() -> None:
    one, other = edited_while_removed()
    exchange(one, other)
    one.disk.write(F, file(1))
    settle(one, other)
    assert contents(one) == contents(other) == {F: file(2)} and is_at_rest(one, other)
