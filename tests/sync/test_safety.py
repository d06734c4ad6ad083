"""The brake: what looks like an accident is held (P14, `semantics.md` 4.8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.ids import ChainId, NodeId
from meshsync.limits import SAFETY_EMPTIED_MIN
from meshsync.sync.reconcile import NOTHING_FROZEN, Plan, reconcile
from meshsync.sync.rejecting import restoring
from meshsync.sync.safety import Before, Cause, Change, Policy, Side, Verdict, Why, suspects, weigh
from tests.model.device_model import file
from tests.sync.device_twin import DeviceTwin, exchange, settle

COUNT = 20
POLICY = Policy(changes_min=5, emptied_min=1, deleted_share_max=0.5, rewritten_share_max=0.5)
NOTHING = Before()
Recent = dict[Cause, set[NodeId]]


def filled(number: int = 1) -> DeviceTwin:
    device = DeviceTwin(number)
    for each in range(COUNT):
        device.disk.write((b"%d" % each,), file(each))
    device.sync()
    return device


def pair() -> tuple[DeviceTwin, DeviceTwin]:
    one, other = filled(1), DeviceTwin(2)
    settle(one, other)
    return one, other


def delete(device: DeviceTwin, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        device.disk.delete((b"%d" % number,))


def rewrite(device: DeviceTwin, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        device.disk.write((b"%d" % number,), file(1000 + number))


def judge(device: DeviceTwin, plan: Plan | None = None, before: Before = NOTHING, policy: Policy = POLICY) -> Verdict:
    found = suspects(plan or device.plan(), device.synced, device.view, device.device, {})
    return weigh(found, device.synced, device.disk.scan(), device.view, before, policy)


def summary(verdict: Verdict) -> list[tuple[Side, Change, Why, int, int]]:
    return [(c.side, c.change, h.why, len(h.files), h.total) for c, h in verdict.held.items()]


def braked(device: DeviceTwin, recent: Recent) -> Verdict:
    """Publish and apply what may pass, and remember it as the agent does; return what is held in the end."""
    for _ in range(8):
        verdict, frozen = Verdict(), NOTHING_FROZEN
        local = device.disk.scan()
        held: dict[Cause, Why] = {}
        while True:
            plan = reconcile(device.synced, local, device.view, None, frozen)
            found = judge(device, plan, Before(recent, held=held))
            if not found.held:
                break
            verdict.held |= found.held
            held |= {cause: each.why for cause, each in found.held.items()}
            for each in found.held.values():
                frozen |= each.frozen
        for cause, files in found.passed.items():
            recent.setdefault(cause, set()).update(files)
        device.record(plan)
        if not plan.again:
            for action in plan.apply:
                device.do(action)
            return verdict
    raise AssertionError("never at rest")


CASES: dict[str, tuple[Callable[[DeviceTwin, int], None], int, list[tuple[Change, Why]]]] = {
    "few deletions pass": (delete, 5, []),
    "up to the share passes": (delete, 10, []),
    "more than the share are held": (delete, 11, [(Change.DELETION, Why.MASS_DELETION)]),
    "an emptied folder is held": (delete, COUNT, [(Change.DELETION, Why.EMPTIED)]),
    "few edits pass": (rewrite, 10, []),
    "most files rewritten is held": (rewrite, 11, [(Change.REWRITE, Why.MASS_REWRITE)]),
}


@pytest.mark.parametrize("rule", CASES)
def test_publishing(rule: str) -> None:
    act, count, want = CASES[rule]
    device = filled()
    act(device, count)
    assert summary(judge(device)) == [(Side.PUBLISH, change, why, count, COUNT) for change, why in want]


@pytest.mark.parametrize("rule", ["more than the share are held", "most files rewritten is held", "few edits pass"])
def test_what_another_device_did_is_weighed_before_it_is_applied(rule: str) -> None:
    act, count, want = CASES[rule]
    one, other = pair()
    act(one, count)
    one.publish()
    exchange(one, other)
    verdict = judge(other)
    assert summary(verdict) == [(Side.APPLY, change, why, count, COUNT) for change, why in want]
    assert all(cause.device == one.device for cause in verdict.held)


@pytest.mark.parametrize(("count", "is_held"), [(SAFETY_EMPTIED_MIN - 1, False), (SAFETY_EMPTIED_MIN, True)])
def test_a_small_emptied_folder_is_held_too_unless_it_had_next_to_nothing(count: int, is_held: bool) -> None:
    device = DeviceTwin(1)
    for number in range(count):
        device.disk.write((b"%d" % number,), file(number))
    device.sync()
    delete(device, count)
    held = [(Side.PUBLISH, Change.DELETION, Why.EMPTIED, count, count)]
    assert summary(judge(device, policy=Policy())) == (held if is_held else [])


def test_a_small_folder_that_is_emptied_in_parts_is_held() -> None:
    device = DeviceTwin(1)
    for number in range(SAFETY_EMPTIED_MIN):
        device.disk.write((b"%d" % number,), file(number))
    device.sync()
    delete(device, SAFETY_EMPTIED_MIN - 1)
    verdict = judge(device, policy=Policy())
    device.publish()
    delete(device, 1, start=SAFETY_EMPTIED_MIN - 1)
    assert not judge(device, policy=Policy()).held
    assert judge(device, before=Before(burst=verdict.passed), policy=Policy()).held


@given(st.lists(st.integers(1, 4), min_size=4, max_size=12), st.sampled_from([delete, rewrite]), st.booleans())
def test_many_small_steps_weigh_as_much_as_one(
    steps: list[int], act: Callable[[DeviceTwin, int, int], None], at_the_other: bool
) -> None:
    """However a mass change is cut into looks or entries, no more than the share passes before it is held."""
    one, other = pair()
    recent: Recent = {}
    done, held = 0, False
    for step in steps:
        count = min(step, COUNT - 1 - done)
        act(one, count, done)
        done += count
        if at_the_other:
            one.publish()
            exchange(one, other)
            held = bool(braked(other, recent).held) or held
        else:
            held = bool(braked(one, recent).held) or held
            exchange(one, other)
            other.sync()
    changed = sum(1 for number in range(COUNT) if other.disk.scan().at((b"%d" % number,)) != _as_filled(other, number))
    assert changed <= COUNT * POLICY.deleted_share_max
    assert held == (done > COUNT * POLICY.deleted_share_max)


def _as_filled(device: DeviceTwin, number: int) -> object:
    row = device.disk.scan().at((b"%d" % number,))
    return row if row is not None and row.content == file(number) else object()


def test_one_file_saved_often_is_one_file() -> None:
    device = filled()
    recent: Recent = {}
    for number in range(30):
        device.disk.write((b"0",), file(500 + number))
        assert not braked(device, recent).held


def test_content_that_is_there_under_another_name_is_not_lost() -> None:
    """Copy everything elsewhere, then delete it: a move by hand."""
    device = filled()
    device.disk.make_directory((b"D",))
    for number in range(COUNT):
        device.disk.write((b"D", b"%d" % number), file(number))
    device.publish()
    delete(device, COUNT)
    assert not judge(device).held


def test_a_moved_directory_is_no_deletion() -> None:
    one, other = DeviceTwin(1), DeviceTwin(2)
    one.disk.make_directory((b"D",))
    for number in range(COUNT):
        one.disk.write((b"D", b"%d" % number), file(number))
    settle(one, other)
    one.disk.rename((b"D",), (b"E",))
    assert not judge(one).held
    one.publish()
    exchange(one, other)
    assert not judge(other).held


def test_joining_with_an_old_copy_is_not_held() -> None:
    """What was written before a device joined was never its user's to lose."""
    one = filled()
    rewrite(one, COUNT)
    one.publish()
    other = filled(2)
    other.synced, other.view = DeviceTwin(2).synced, DeviceTwin(2).view
    other.log.clear()
    exchange(one, other)
    plan, nothing = other.publish(), dict[ChainId, int]()
    for baseline, is_held in ((other.view.vector, False), (nothing, True)):
        found = suspects(plan, other.synced, other.view, other.device, baseline)
        held = weigh(found, other.synced, other.disk.scan(), other.view, Before(), POLICY).held
        assert bool(held) == is_held


def test_the_rest_goes_on_while_something_is_held() -> None:
    one, other = pair()
    delete(one, 12)
    one.disk.write((b"15",), file(77))
    one.disk.write((b"new",), file(78))
    assert braked(one, {}).held
    exchange(one, other)
    other.sync()
    assert other.disk.scan().at((b"15",)).content == file(77)  # type: ignore[union-attr]
    assert other.disk.scan().at((b"new",)).content == file(78)  # type: ignore[union-attr]
    assert len(other.disk.scan()) == COUNT + 1


def test_what_was_released_passes_and_only_that() -> None:
    device = filled()
    delete(device, 12)
    (held,) = judge(device).held.items()
    released = {held[0]: held[1].nodes}
    assert not judge(device, before=Before(released=released)).held
    delete(device, 8, start=12)
    verdict = judge(device, before=Before(released=released))
    assert summary(verdict) == [(Side.PUBLISH, Change.DELETION, Why.EMPTIED, 8, COUNT)]


def test_a_hold_keeps_what_follows_until_it_is_decided() -> None:
    device = filled()
    delete(device, 12)
    (cause,) = judge(device).held
    device.disk.write((b"0",), file(0))
    delete(device, 1, start=13)
    device.disk.delete((b"14",))
    assert judge(device, before=Before(held={cause: Why.MASS_DELETION})).held


@pytest.mark.parametrize("act", [delete, rewrite])
def test_a_rejected_change_of_others_is_put_again_everywhere(act: Callable[[DeviceTwin, int], None]) -> None:
    one, other = pair()
    act(one, 12)
    one.publish()
    exchange(one, other)
    ((_, held),) = judge(other).held.items()
    plan = Plan(publish=restoring(other.synced, other.view, held.nodes))
    other.record(plan)
    assert not other.plan().apply
    settle(one, other)
    for device in (one, other):
        contents = {row.path[0]: row.content for row in device.disk.scan().walk()}
        assert contents == {b"%d" % number: file(number) for number in range(COUNT)}


def test_a_rejected_deletion_of_directories_brings_empty_ones_back() -> None:
    one, other = DeviceTwin(1), DeviceTwin(2)
    one.disk.make_directory((b"D",))
    one.disk.make_directory((b"D", b"empty"))
    for number in range(COUNT):
        one.disk.write((b"D", b"%d" % number), file(number))
    settle(one, other)
    one.disk.delete((b"D",))
    one.publish()
    exchange(one, other)
    ((_, held),) = judge(other).held.items()
    assert (len(held.files), len(held.nodes)) == (COUNT, COUNT + 2)
    other.record(Plan(publish=restoring(other.synced, other.view, held.nodes)))
    settle(one, other)
    assert {row.path for row in one.disk.scan().walk()} == {row.path for row in other.disk.scan().walk()}
    assert len(one.disk.scan()) == COUNT + 2
