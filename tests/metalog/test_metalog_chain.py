"""semantics.md 1.1 and 1.3: delivery, time, branches, and what a peer lacks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_scene import ANNA, BEN, CARA, chain, entry

from meshsync import limits
from meshsync.errors import MalformedMessage
from meshsync.ids import EntryId
from meshsync.metalog.chain import Accepted, BranchAlarm, ChainSet, Duplicate, Missing, Row
from meshsync.metalog.entry import OpenedEntry, make_entry, make_envelope
from meshsync.metalog.fields import ChainHead


def accept_all(entries: list[OpenedEntry], chains: ChainSet | None = None) -> ChainSet:
    chains = ChainSet() if chains is None else chains
    for item in entries:
        chains.accept(item)
    return chains


def all_rows(chains: ChainSet, entries: list[OpenedEntry]) -> list[Row]:
    return [row for item in entries if (row := chains.row(item.id)) is not None]


def time_of(chains: ChainSet, item: OpenedEntry) -> int:
    row = chains.row(item.id)
    assert row is not None
    return row.time


def history(seed: int, size: int) -> list[OpenedEntry]:
    """A random causal history of three devices, with branches."""
    choose = random.Random(seed)
    made: list[OpenedEntry] = []
    for number in range(size):
        author = choose.choice((ANNA, BEN, CARA))
        own = [item for item in made if item.device == author.device]
        after = choose.choice(own[-2:]) if own and choose.random() < 0.9 else None
        others = [item for item in made if after is None or item.chain != after.chain]
        seen = tuple({item.id: item for item in choose.sample(others, min(2, len(others)))}.values())
        made.append(entry(author, after, seen, b"%d of %d" % (number, seed)))
    return made


def test_time_is_one_more_than_all_that_is_named():
    first, second = chain(ANNA, 2)
    other = entry(BEN, seen=(second,))
    chains = accept_all([first, second, other, entry(CARA)])
    assert [time_of(chains, item) for item in (first, second, other)] == [1, 2, 3]
    assert time_of(chains, entry(CARA)) == 1


def test_an_entry_waits_for_its_past_and_is_then_delivered_in_causal_order():
    first, second = chain(ANNA, 2)
    late = entry(BEN, seen=(second,))
    chains = ChainSet()
    assert chains.accept(late) == Missing((second.head,), kept=True)
    assert chains.accept(second) == Missing((first.head,), kept=True)
    assert chains.waiting == 2
    outcome = chains.accept(first)
    assert isinstance(outcome, Accepted)
    assert [item.entry for item in outcome.delivered] == [first, second, late]
    assert (outcome.time, chains.waiting) == (1, 0)


def test_what_waits_already_is_not_asked_for_again():
    first, second, third = chain(ANNA, 3)
    chains = accept_all([second])
    assert chains.accept(third) == Missing((), kept=True)
    assert first.id not in chains


def test_the_same_entry_again_is_a_duplicate():
    first, second = chain(ANNA, 2)
    chains = accept_all([second])
    assert chains.accept(second) == Duplicate()
    chains.accept(first)
    assert chains.accept(first) == Duplicate() == chains.accept(second)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_times_and_heads(seed: int, shuffler: random.Random):
    entries = history(seed, 12)
    causal = accept_all(entries)
    shuffled = shuffler.sample(entries, len(entries))
    other = accept_all(shuffled)
    assert all_rows(other, entries) == all_rows(causal, entries)
    assert other.heads() == causal.heads() and other.waiting == 0


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_delivery_never_precedes_the_past(seed: int, shuffler: random.Random):
    entries = history(seed, 12)
    chains, delivered = ChainSet(), list[EntryId]()
    for item in shuffler.sample(entries, len(entries)):
        outcome = chains.accept(item)
        for step in outcome.delivered if isinstance(outcome, Accepted) else ():
            assert {place.entry for place in step.entry.past()} <= set(delivered)
            delivered.append(step.entry.id)
    assert sorted(delivered) == sorted(item.id for item in entries)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 12))
def test_state_is_rebuilt_from_rows(seed: int, cut: int):
    entries = history(seed, 12)
    chains = accept_all(entries[:cut])
    rebuilt = ChainSet(reversed(all_rows(chains, entries)))
    assert rebuilt.heads() == chains.heads()
    assert [rebuilt.accept(item) for item in entries] == [chains.accept(item) for item in entries]


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 12))
def test_what_was_delivered_and_could_not_be_kept_is_taken_back(seed: int, cut: int):
    entries = history(seed, 12)
    before, after = accept_all(entries[:cut]), accept_all(entries)
    back = after.without({item.id for item in entries[cut:]})
    assert all_rows(back, entries) == all_rows(before, entries) and back.heads() == before.heads()
    assert [back.accept(item) for item in entries] == [before.accept(item) for item in entries]


class TestBranches:
    """promises.md B 13."""

    first = entry(ANNA)
    left, right = entry(ANNA, first, payload=b"left"), entry(ANNA, first, payload=b"right")
    left_next, right_next = entry(ANNA, left), entry(ANNA, right)

    def test_two_entries_after_one_are_both_delivered_without_alarm(self):
        chains = accept_all([self.first, self.left])
        outcome = chains.accept(self.right)
        assert isinstance(outcome, Accepted) and outcome.alarms == ()
        assert {head.entry for head in chains.heads()} == {self.left.id, self.right.id}

    def test_one_extended_branch_is_no_alarm(self):
        """A disk restored from an image: its device opens a new chain, and the old branch goes on alone."""
        chains = accept_all([self.first, self.left, self.right])
        outcome = chains.accept(self.left_next)
        assert isinstance(outcome, Accepted) and outcome.alarms == ()

    @pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 1, 3, 2, 4), (0, 2, 4, 1, 3), (4, 3, 2, 1, 0)])
    def test_both_extended_is_one_alarm_and_all_stays(self, order: tuple[int, ...]):
        entries = [self.first, self.left, self.right, self.left_next, self.right_next]
        chains, alarms = ChainSet(), list[BranchAlarm]()
        for at in order:
            outcome = chains.accept(entries[at])
            alarms += outcome.alarms if isinstance(outcome, Accepted) else ()
        branches = tuple(sorted((self.left.id, self.right.id)))
        assert alarms == [BranchAlarm(ANNA.device, self.first.chain, self.first.id, branches)]
        assert len(chains) == 5

    def test_an_alarm_is_not_lost_by_a_restart_in_between(self):
        entries = [self.first, self.left, self.right, self.left_next]
        outcome = ChainSet(all_rows(accept_all(entries), entries)).accept(self.right_next)
        assert isinstance(outcome, Accepted) and len(outcome.alarms) == 1

    def test_a_new_chain_of_the_same_device_is_no_branch(self):
        chains = accept_all([self.first, self.left, self.left_next])
        other = chain(ANNA, 3, None)
        assert all(outcome.alarms == () for item in other if isinstance(outcome := chains.accept(item), Accepted))
        assert len({head.chain for head in chains.heads()}) == 2


def signed_after(author, head: ChainHead, seen: tuple[ChainHead, ...] = ()) -> OpenedEntry:
    base = entry(author).envelope
    envelope = make_envelope(
        author, base.folder, after=head, membership=base.membership, epoch=base.epoch,
        payload=b"x", op_count=1, seen=seen,
    )  # fmt: skip
    return make_entry(author, envelope, b"x")


class TestContradictions:
    first, second = chain(ANNA, 2)

    CASES = (
        ("continues the chain of another device", signed_after(BEN, second.head)),
        ("skips a sequence number", signed_after(ANNA, ChainHead(first.chain, 5, second.id))),
        (
            "names another chain than its previous entry's",
            signed_after(ANNA, ChainHead(EntryId(bytes(32)), 2, second.id)),
        ),
        ("misplaces what it has seen", signed_after(BEN, entry(BEN).head, (ChainHead(first.chain, 9, second.id),))),
    )

    @pytest.mark.parametrize("bad", [case[1] for case in CASES], ids=[case[0] for case in CASES])
    def test_is_malformed_and_changes_nothing(self, bad: OpenedEntry):
        chains = accept_all([self.first, self.second, entry(BEN)])
        before = chains.heads()
        with pytest.raises(MalformedMessage):
            chains.accept(bad)
        assert chains.heads() == before and bad.id not in chains

    @pytest.mark.parametrize("bad", [case[1] for case in CASES], ids=[case[0] for case in CASES])
    def test_met_while_waiting_is_dropped_with_all_that_waits_for_it(self, bad: OpenedEntry):
        chains = accept_all([entry(BEN), bad, signed_after(CARA, entry(CARA).head, (bad.head,)), entry(CARA)])
        outcome = accept_all([self.first], chains).accept(self.second)
        assert isinstance(outcome, Accepted)
        assert [item.id for item in outcome.refused][:1] == [bad.id] and len(outcome.refused) == 2
        assert chains.waiting == 0 and bad.id not in chains


class TestWaitingIsBounded:
    def test_in_number(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "ENTRIES_WAITING_MAX", 2)
        entries = chain(ANNA, 5)
        chains = ChainSet()
        outcomes = [chains.accept(item) for item in reversed(entries[1:])]
        assert [item.kept for item in outcomes if isinstance(item, Missing)] == [True, True, False, False]
        accept_all(entries, chains)
        assert len(chains) == 5 and chains.waiting == 0

    def test_in_bytes(self, monkeypatch: pytest.MonkeyPatch):
        entries = chain(ANNA, 4)
        monkeypatch.setattr(limits, "ENTRIES_WAITING_BYTES_MAX", entries[3].size_bytes)
        chains = ChainSet()
        assert chains.accept(entries[3]) == Missing((entries[2].head,), kept=True)
        assert chains.accept(entries[2]) == Missing((entries[1].head,), kept=False)


class TestMissingFor:
    def test_a_new_peer_lacks_everything_in_causal_order(self):
        first, second = chain(ANNA, 2)
        other = entry(BEN, seen=(first,))
        chains = accept_all([first, second, other])
        lacking = [row.id for row in chains.missing_for([])]
        assert lacking[0] == first.id and set(lacking[1:]) == {second.id, other.id}
        assert [row.id for row in chains.missing_for([], count_max=1)] == [first.id]

    def test_a_peer_lacks_what_follows_its_heads(self):
        entries = chain(ANNA, 4)
        chains = accept_all(entries)
        assert [row.id for row in chains.missing_for([entries[1].head])] == [entries[2].id, entries[3].id]
        assert chains.missing_for(chains.heads()) == []

    def test_a_peer_that_is_ahead_lacks_nothing_of_the_chain(self):
        entries = chain(ANNA, 4)
        assert accept_all(entries[:2]).missing_for([entries[3].head]) == []

    @settings(max_examples=40)
    @given(st.integers(0, 10_000), st.integers(0, 12), st.integers(0, 12))
    def test_two_peers_reach_each_other_by_asking(self, seed: int, mine: int, theirs: int):
        entries = history(seed, 12)
        by_id = {item.id: item for item in entries}
        left, right = accept_all(entries[:mine]), accept_all(entries[:theirs])
        for source, target in ((left, right), (right, left)):
            for row in source.missing_for(target.heads()):
                target.accept(by_id[row.id])
        assert left.heads() == right.heads() and len(left) == len(right) == max(mine, theirs)


def test_ancestors_follow_one_branch():
    first = entry(ANNA)
    left, right = (entry(ANNA, first, payload=name) for name in (b"left", b"right"))
    tip = entry(ANNA, left)
    chains = accept_all([first, left, right, tip])
    assert chains.is_ancestor(first.id, tip.id) and chains.is_ancestor(tip.id, tip.id)
    assert not chains.is_ancestor(right.id, tip.id) and not chains.is_ancestor(tip.id, left.id)
    assert not chains.is_ancestor(EntryId(bytes(32)), tip.id)
