"""What may show again after an edit was put over it is kept by the disk that had it, and nothing else is (P1, P2)."""

from __future__ import annotations

from meshsync.ids import Dot
from meshsync.sync.spare import is_spare, spared_by
from tests.model.device_model import file
from tests.sync.device_twin import DeviceTwin, exchange
from tests.sync.test_mtimes import THEN_NS, F, G, pair


def spared(device: DeviceTwin) -> list[Dot]:
    return [name for action in device.plan().apply for name, _ in spared_by(action, device.synced, device.view)]


def touched_and_edited() -> tuple[DeviceTwin, DeviceTwin]:
    """One device touched a file and knows by now that the other one edited it, which does not know of the touch."""
    one, other = pair((F, file(1)))
    one.disk.touch(F, THEN_NS)
    one.publish()
    other.disk.write(F, file(2))
    other.publish()
    one.receive(other.log)
    return one, other


def test_a_touched_version_is_kept_when_the_edit_comes() -> None:
    one, _ = touched_and_edited()
    (row,) = one.synced.at(F)
    assert spared(one) == list(row.versions)


def test_it_is_spare_until_it_is_shown_and_on_this_disk_again() -> None:
    one, other = touched_and_edited()
    (name,) = spared(one)
    one.sync()
    assert is_spare(name, one.synced, one.view)
    other.disk.delete(F)
    other.publish()
    one.receive(other.log)
    assert one.view.is_shown(name) and is_spare(name, one.synced, one.view), "it is still to be written"
    one.sync()
    assert one.disk.tree() == {F: (file(1), False)} and not is_spare(name, one.synced, one.view)


def test_it_is_spare_no_more_once_somebody_who_knew_it_edits_the_file() -> None:
    one, other = touched_and_edited()
    (name,) = spared(one)
    one.sync()
    exchange(one, other)
    other.sync()
    other.disk.write(F, file(3))
    other.publish()
    exchange(one, other)
    assert not is_spare(name, one.synced, one.view)
    one.sync()
    assert one.disk.tree() == {F: (file(3), False)}


def test_what_was_replaced_removed_or_is_shown_elsewhere_is_not_kept() -> None:
    one, other = pair((F, file(1)), (G, file(2)))
    other.disk.write(F, file(3))
    other.disk.delete(G)
    other.publish()
    one.receive(other.log)
    assert one.plan().apply and not spared(one)
    one.sync()
    one.disk.write(F, file(4))
    other.disk.write(F, file(5))
    one.publish()
    other.publish()
    exchange(one, other)
    assert one.plan().apply and not spared(one) and not spared(other), "both are shown, one as a conflict copy"


def test_a_version_that_never_was_is_nobodys() -> None:
    one, _ = touched_and_edited()
    assert not is_spare(Dot(b"x" * 44), one.synced, one.view)
