"""The planner, rule by rule (`semantics.md` 4, 6; promises P3, P4, P6, P7, P14). One file, one value."""

from __future__ import annotations

import pytest

from meshsync.agent.work import group_actions
from meshsync.content.batch import UNNAMED_CHAIN
from meshsync.content.record import Content, Drop, Keep, Kind, Place, Put
from meshsync.ids import ChainId, NodeId
from meshsync.sync.actions import Move, Remove, WriteFile
from meshsync.sync.draft import Publisher
from meshsync.sync.node import DIRECTORY
from meshsync.sync.reconcile import Plan, Scope, reconcile
from meshsync.sync.worklist import Worklist
from tests.model.device_model import file, link
from tests.sync.device_twin import DeviceTwin, exchange, settle
from tests.sync.disk_twin import Path

A, B, D, E, F, G = (b"a",), (b"b",), (b"D",), (b"E",), (b"f",), (b"g",)


def pair(*files: tuple[Path, Content]) -> tuple[DeviceTwin, DeviceTwin]:
    """Two devices that have the same files."""
    one, other = DeviceTwin(1), DeviceTwin(2)
    for path, content in files:
        if content == DIRECTORY:
            one.disk.make_directory(path)
        else:
            one.disk.write(path, content)
    settle(one, other)
    return one, other


def ops(plan: Plan) -> list[object]:
    return [change.op for change in plan.publish.changes]


def kinds(plan: Plan) -> list[str]:
    return [type(op).__name__ for op in ops(plan)]


def tree(device: DeviceTwin) -> dict[Path, Content]:
    return {path: content for path, (content, _) in device.disk.tree().items()}


def node(device: DeviceTwin, path: Path) -> NodeId:
    return device.synced.at(path)[0].node


# --- matching: which node is it now ------------------------------------------------------------------------------


def test_a_new_file_is_a_put_that_makes_a_node() -> None:
    one, _ = pair()
    one.disk.write(F, file(1))
    (op,) = ops(one.plan())
    assert isinstance(op, Put) and op.node is None and op.replaces == () and op.path == F


def test_a_safe_save_keeps_the_node_whatever_the_inode() -> None:
    one, _ = pair((F, file(1)))
    base = one.synced.at(F)[0]
    one.disk.write(F, file(2))
    (op,) = ops(one.plan())
    assert isinstance(op, Put) and op.node == base.node and op.replaces == base.versions


def test_h10_an_editor_that_renames_to_a_backup_does_not_move_the_node() -> None:
    one, _ = pair((F, file(1)))
    was = node(one, F)
    one.disk.rename(F, (b"f~",))
    one.disk.write(F, file(2))
    one.sync()
    assert node(one, F) == was and node(one, (b"f~",)) != was


def test_h10_a_new_file_in_a_reused_inode_is_not_a_rename() -> None:
    one, _ = pair((A, file(1)))
    inode = one.disk.at(A).inode  # type: ignore[union-attr]
    one.disk.delete(A)
    one.disk.write(B, file(2))
    one.disk.at(B).inode = inode  # type: ignore[union-attr]
    assert kinds(one.plan()) == ["Put", "Drop"]


def test_a_vanished_path_and_a_new_one_with_its_inode_are_a_rename() -> None:
    one, _ = pair((A, file(1)))
    one.disk.rename(A, B)
    (op,) = ops(one.plan())
    assert isinstance(op, Place) and op.carries == one.synced.at(A)[0].versions


def test_a_rename_through_a_copy_is_found_by_content() -> None:
    one, _ = pair((A, file(1)))
    before = one.disk.mtimes()[A]
    one.disk.delete(A)
    one.disk.write(B, file(1))
    one.disk.touch(B, before)
    assert kinds(one.plan()) == ["Place"]


def test_several_candidates_make_new_nodes() -> None:
    one, _ = pair((A, file(1)))
    one.disk.delete(A)
    one.disk.write(B, file(1))
    one.disk.write(F, file(1))
    assert kinds(one.plan()) == ["Put", "Put", "Drop"]


def test_a_hard_link_still_present_makes_a_new_node() -> None:
    one, _ = pair((A, file(1)), (B, file(1)))
    one.disk.delete(A)
    one.disk.write(F, file(1))
    one.disk.at(F).inode = one.disk.at(B).inode  # type: ignore[union-attr]
    assert kinds(one.plan()) == ["Put", "Drop"]


def test_a_renamed_directory_is_one_operation_and_carries_what_is_in_it() -> None:
    one, other = pair((D, DIRECTORY), *(((*D, b"%d" % n), file(n)) for n in range(1, 20)))
    one.disk.rename(D, E)
    (op,) = ops(one.plan())
    assert isinstance(op, Place) and len(op.carries) == 20
    settle(one, other)
    assert tree(other) == tree(one)


def test_a_directory_made_anew_under_the_old_name_is_another_node() -> None:
    one, _ = pair((D, DIRECTORY), ((*D, b"x"), file(1)))
    was = node(one, D)
    one.disk.rename(D, E)
    one.disk.make_directory(D)
    one.sync()
    assert node(one, E) == was and node(one, D) != was


def test_a_file_that_becomes_a_directory_is_a_new_node() -> None:
    one, other = pair((F, file(1)))
    one.disk.delete(F)
    one.disk.make_directory(F)
    one.disk.write((*F, b"x"), file(2))
    settle(one, other)
    assert tree(other) == {F: DIRECTORY, (*F, b"x"): file(2)}


# --- publishing: only what lay on this disk ----------------------------------------------------------------------


def test_h1_a_put_names_what_was_on_disk_and_not_what_was_received() -> None:
    one, other = pair((F, file(1)))
    base = one.synced.at(F)[0].versions
    other.disk.write(F, file(2))
    other.publish()
    exchange(one, other)
    one.disk.write(F, file(3))
    (op,) = ops(one.plan())
    assert isinstance(op, Put) and op.replaces == base
    settle(one, other)
    assert set(tree(one).values()) == {file(2), file(3)}


def conflicted() -> tuple[DeviceTwin, DeviceTwin, Path]:
    one, other = pair((F, file(1)))
    one.disk.write(F, file(2))
    other.disk.write(F, file(3))
    settle(one, other)
    return one, other, next(path for path in tree(one) if path != F)


def test_p3_a_conflict_keeps_both_under_the_same_names_everywhere() -> None:
    one, other, copy = conflicted()
    assert tree(one) == tree(other) and set(tree(one)) == {F, copy} and copy[0].startswith(b"f (conflict ")


def test_h2_an_edit_of_the_copy_is_an_edit_of_its_own_node() -> None:
    one, other, copy = conflicted()
    one.disk.write(copy, file(4))
    (op,) = ops(one.plan())
    assert isinstance(op, Put) and op.node is not None and len(op.node) == 32
    settle(one, other)
    assert tree(other)[copy] == file(4) and len(tree(other)) == 2


def test_h3_a_drop_names_the_copy_that_stays() -> None:
    one, other, copy = conflicted()
    was = node(one, F)
    one.disk.delete(F)
    (op,) = ops(one.plan())
    assert isinstance(op, Drop)
    (keep,) = op.keeps
    assert isinstance(keep, Keep) and keep.node == was and keep.version is not None and keep.name == copy[0]
    settle(one, other)
    assert set(tree(other)) == {copy}


def test_p4_h4_delete_of_a_directory_against_its_rename() -> None:
    one, other = pair((D, DIRECTORY), ((*D, b"x"), file(1)))
    one.disk.rename(D, E)
    other.disk.delete(D)
    settle(one, other)
    assert tree(one) == tree(other) == {E: DIRECTORY, (*E, b"x"): file(1)}


def test_the_first_operation_inside_a_dropped_directory_puts_it_again() -> None:
    one, other = pair((D, DIRECTORY), ((*D, b"x"), file(1)))
    one.disk.write((*D, b"y"), file(2))
    other.disk.delete(D)
    settle(one, other)
    assert tree(one) == {D: DIRECTORY, (*D, b"y"): file(2)}
    one.disk.delete((*D, b"y"))
    assert kinds(one.plan()) == ["Put", "Drop"]
    settle(one, other)
    assert tree(one) == tree(other) == {D: DIRECTORY}


def test_p7_a_deletion_reaches_a_device_that_was_away_and_is_not_undone_by_it() -> None:
    one, other = pair((F, file(1)), (G, file(2)))
    one.disk.delete(F)
    one.publish()
    settle(one, other)
    assert tree(other) == {G: file(2)}
    other.sync()
    assert not ops(other.plan())


# --- joining, absence, crashes -----------------------------------------------------------------------------------


def test_p6_h9_a_joiner_with_an_equal_tree_publishes_nothing() -> None:
    one, _ = pair((D, DIRECTORY), ((*D, b"x"), file(1)), (F, file(2)))
    late = DeviceTwin(3)
    late.disk.make_directory(D)
    late.disk.write((*D, b"x"), file(1))
    late.disk.write(F, file(2))
    exchange(one, late)
    late.sync()
    assert late.view.vector.keys() == {one.chain} and tree(late) == tree(one)


def test_h9_a_joiner_with_an_older_version_has_that_version() -> None:
    one, _ = pair((F, file(1)))
    one.disk.write(F, file(2))
    one.sync()
    late = DeviceTwin(3)
    late.disk.write(F, file(1))
    exchange(one, late)
    late.sync()
    assert late.chain not in late.view.vector and tree(late) == {F: file(2)}


def test_a_joiner_with_other_content_makes_a_conflict_and_loses_nothing() -> None:
    one, _ = pair((F, file(1)))
    late = DeviceTwin(3)
    late.disk.write(F, file(9))
    exchange(one, late)
    settle(one, late)
    assert set(tree(one).values()) == {file(1), file(9)} and tree(one) == tree(late)


def test_joining_with_a_backup_deletes_nothing_and_adopts_no_dead_node() -> None:
    one, _ = pair((F, file(1)))
    was = node(one, F)
    one.disk.delete(F)
    one.sync()
    late = DeviceTwin(3)
    late.disk.write(F, file(1))
    exchange(one, late)
    settle(one, late)
    assert tree(late) == tree(one) == {F: file(1)} and node(late, F) != was


def test_p14_what_merely_vanished_from_the_view_stays_and_is_published_anew() -> None:
    one, other = pair((D, DIRECTORY), ((*D, b"x"), file(1)))
    other.view = type(other.view)()  # the log is lost, the folder is not
    other.log = []
    other.chain = ChainId(b"\xee" * 32)
    plan = other.publish()
    assert not any(isinstance(action, Remove) for action in plan.apply)
    assert tree(other) == {D: DIRECTORY, (*D, b"x"): file(1)}
    settle(one, other)
    assert tree(one) == tree(other) == {D: DIRECTORY, (*D, b"x"): file(1)}


def test_p14_what_is_not_observed_is_not_deleted() -> None:
    one, _ = pair((D, DIRECTORY), ((*D, b"x"), file(1)))
    one.disk.unobserved = {(*D, b"x")}
    assert not ops(one.plan())
    one.disk.unobserved = {D}
    plan = one.plan()
    assert not ops(plan) and not plan.apply and node(one, D) in plan.busy


def test_h8_a_crash_between_a_remote_rename_and_its_record_publishes_nothing() -> None:
    one, other = pair((F, file(1)))
    one.disk.rename(F, G)
    one.publish()
    exchange(one, other)
    (action,) = other.publish().apply
    assert isinstance(action, Move)
    other.do_and_crash(action)
    one.disk.rename(G, A)
    one.publish()
    assert not ops(other.plan())
    settle(one, other)
    assert tree(one) == tree(other) == {A: file(1)}


def test_content_that_came_some_other_way_is_the_version_that_it_equals() -> None:
    one, other = pair((F, file(1)))
    one.disk.write(F, file(2))
    one.publish()
    exchange(one, other)
    other.disk.write(F, file(2))
    plan = other.plan()
    assert not ops(plan) and plan.again
    other.sync()
    assert other.synced.at(F)[0].versions == one.synced.at(F)[0].versions


# --- apply -------------------------------------------------------------------------------------------------------


def test_a_removal_has_the_drop_as_its_witness_and_names_what_was_seen() -> None:
    one, other = pair((F, file(1)))
    one.disk.delete(F)
    one.publish()
    exchange(one, other)
    (action,) = other.publish().apply
    assert isinstance(action, Remove) and action.expected == other.disk.at(F).stat  # type: ignore[union-attr]


def test_a_local_edit_that_is_not_published_yet_is_not_overwritten() -> None:
    one, other = pair((F, file(1)))
    one.disk.write(F, file(2))
    one.publish()
    exchange(one, other)
    other.disk.write(F, file(3))
    assert not other.plan().apply


def test_two_swapped_files_are_exchanged_and_never_absent() -> None:
    one, other = pair((D, DIRECTORY), (E, DIRECTORY), ((*D, b"x"), file(1)), ((*E, b"y"), file(2)))
    one.disk.rename(D, A)
    one.disk.rename(E, D)
    one.disk.rename(A, E)
    one.publish()
    exchange(one, other)
    (action,) = other.publish().apply
    assert isinstance(action, Move) and action.exchange
    other.do(action)
    assert tree(other) == tree(one)


def test_a_new_file_takes_a_path_whose_file_goes_elsewhere_without_a_gap() -> None:
    one, other = pair((F, file(1)))
    one.disk.rename(F, G)
    one.publish()
    one.disk.write(F, file(2))
    one.publish()
    exchange(one, other)
    for action in other.publish().apply:
        other.do(action)
        assert other.disk.at(F) is not None
    assert tree(other) == {F: file(2), G: file(1)} and not other.disk.parked


def test_a_directory_goes_into_what_was_in_it() -> None:
    one, other = pair((D, DIRECTORY), ((*D, b"E"), DIRECTORY), ((*D, b"x"), file(1)))
    one.disk.rename((*D, b"E"), E)
    one.disk.rename(D, (*E, b"D"))
    settle(one, other)
    assert tree(other) == {E: DIRECTORY, (*E, b"D"): DIRECTORY, (*E, b"D", b"x"): file(1)}


def test_a_plan_for_what_changed_equals_the_plan_for_everything() -> None:
    one, other = pair((D, DIRECTORY), *(((*D, b"%d" % n), file(n)) for n in range(1, 30)))
    one.disk.write((*D, b"7"), file(70))
    (op,) = ops(one.plan(Scope(frozenset({(*D, b"7")}), frozenset())))
    assert isinstance(op, Put)
    one.publish()
    changed = set()
    for entry in one.log[len(other.log) :]:
        changed |= other.view.apply(entry)
        other.log.append(entry)
    scoped = other.plan(Scope(frozenset(), frozenset(changed)))
    (action,) = scoped.apply
    assert isinstance(action, WriteFile) and scoped.apply == other.plan().apply


def test_what_is_as_it_should_be_costs_a_plan_nothing() -> None:
    """Else each part of a large change would consider again, for each of its files, all that arrived before."""
    one, other = pair((D, DIRECTORY), ((*D, b"a"), file(1)), ((*D, b"b"), file(2)))
    one.disk.write((*D, b"b"), file(3))
    one.publish()
    work = Worklist(one.synced, one.view)
    work.add(one.synced.rows)
    assert not work.nodes
    exchange(one, other)
    work = Worklist(other.synced, other.view)
    work.add(other.synced.rows)
    assert list(work.nodes) == [node(other, (*D, b"b"))]


def test_a_link_replaces_a_file_and_back() -> None:
    one, other = pair((F, file(1)))
    one.disk.write(F, link(1))
    settle(one, other)
    assert tree(other) == {F: link(1)}
    other.disk.write(F, file(2))
    settle(one, other)
    assert tree(one) == {F: file(2)} and one.synced.at(F)[0].kind is Kind.FILE


# --- entries -----------------------------------------------------------------------------------------------------


def test_a_draft_is_cut_into_entries_that_name_each_other() -> None:
    one, _ = pair()
    one.disk.make_directory(D)
    for number in range(1500):
        one.disk.write((*D, b"%d" % number), file(number))
    publisher = Publisher(one.plan().publish)
    first = publisher.next_batch(UNNAMED_CHAIN, 1)
    assert first is not None
    publisher.name_chain(UNNAMED_CHAIN, one.chain)
    second = publisher.next_batch(one.chain, 2)
    assert second is not None and publisher.next_batch(one.chain, 3) is None
    assert (len(first.ops), len(second.ops)) == (1000, 501)
    op = second.ops[0]
    assert isinstance(op, Put) and op.parent == first.named(UNNAMED_CHAIN, one.chain).rows[0].node
    assert op.parent[:32] == one.chain


@pytest.mark.parametrize("count", [1, 3])
def test_at_rest_nothing_is_planned(count: int) -> None:
    one, other = pair(*(((b"%d" % n,), file(n)) for n in range(count)))
    for device in (one, other):
        plan = device.plan()
        assert not ops(plan) and not plan.apply and not plan.settled and not plan.forgotten


@pytest.mark.parametrize("winner", [link(5), file(5)])
def test_a_copy_is_staged_from_what_lies_here_before_that_is_replaced(winner: Content) -> None:
    # Until then it may be the only place in the world where that content lies.
    one, other = pair((F, file(1)))
    other.disk.write(F, file(2))
    other.sync()
    for _ in range(3):  # later than the other's by its stamp
        one.disk.write(G, file(3))
        one.sync()
        one.disk.delete(G)
        one.sync()
    one.disk.write(F, winner)
    one.sync()
    other.receive(one.log)
    actions = other.publish().apply
    copy, winning = actions
    assert isinstance(copy, WriteFile) and copy.content == file(2) and copy.lies_at == F
    assert winning.target == F and len(group_actions(actions)) == 1


def test_what_waits_for_something_unobserved_is_told_and_comes_once_that_is_observed() -> None:
    one, other = pair((D, DIRECTORY))
    one.disk.write((b"D", b"f"), file(1))
    one.sync()
    other.receive(one.log)
    local = other.disk.scan()
    local.unobserved = {D}
    waiting = reconcile(other.synced, local, other.view).waiting
    assert waiting == {node(one, (b"D", b"f")), node(other, D)}
    (action,) = other.plan(Scope(frozenset(), frozenset(waiting))).apply
    assert isinstance(action, WriteFile) and action.target == (b"D", b"f")


def test_what_is_to_go_and_cannot_be_observed_waits_too() -> None:
    one, other = pair((F, file(1)))
    one.disk.delete(F)
    one.sync()
    other.receive(one.log)
    local = other.disk.scan()
    local.unobserved = {F}
    plan = reconcile(other.synced, local, other.view)
    assert not plan.apply and plan.waiting == {node(other, F)}
    (action,) = other.plan(Scope(frozenset(), frozenset(plan.waiting))).apply
    assert isinstance(action, Remove) and action.target == F
