"""What lies in a directory that two nodes are shown as stays known when one of them goes (P2, P7)."""

from __future__ import annotations

from meshsync.sync.reconcile import NOTHING_FROZEN, Frozen
from tests.model.device_model import file
from tests.sync.device_twin import DeviceTwin, exchange, settle

D, F, G, H = (b"D",), (b"D", b"f"), (b"D", b"g"), (b"D", b"h")


def test_a_removal_that_is_held_while_one_of_two_merged_directories_goes_is_carried_out_later() -> None:
    one, other, third = DeviceTwin(1), DeviceTwin(2), DeviceTwin(3)
    for device, path, content in ((one, F, file(1)), (other, G, file(2))):
        device.disk.make_directory(D)
        device.disk.write(path, content)
    settle(one, other, third)
    assert len(other.synced.at(D)) == 2
    third.disk.rename(F, H)
    third.publish()
    one.disk.delete(D)
    one.publish()
    exchange(one, other, third)
    other.frozen = Frozen(nodes=frozenset([other.synced.at(G)[0].node]))
    other.sync()
    assert set(other.disk.tree()) == {D, G, H}
    assert {other.synced.path_of(node) for node in other.synced.rows} == {D, G, H}
    other.publish()
    other.frozen = NOTHING_FROZEN
    settle(one, other, third)
    assert all(set(device.disk.tree()) == {D, H} for device in (one, other, third))
