"""Folder keys: what a member holds, receives and passes on. Spec: docs/spec/crypto.md 2-4."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshsync.crypto.folder_keys import (
    FolderKeys,
    commitment,
    open_bundle,
    pack_bundle,
    secret_commitment,
    unwrap_epoch,
    wrap_epoch,
)
from meshsync.errors import AccessError, AuthenticationFailed, CommitmentMismatch, MalformedMessage
from meshsync.ids import EpochId, FolderId

FOLDER, OTHER = FolderId(bytes(range(32))), FolderId(bytes(range(31)) + b"\xff")
SECRET, OLD, NEW = b"s" * 32, b"o" * 32, b"n" * 32
SECRET_ID = secret_commitment(SECRET)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "crypto.json").read_text())


def keys(folder: FolderId = FOLDER, epoch_key: bytes = OLD) -> FolderKeys:
    epoch = commitment(epoch_key)
    return FolderKeys(folder, SECRET, {epoch: epoch_key}, epoch)


def test_derived_keys_are_those_of_the_specification() -> None:
    held = keys()
    derived = {
        "epoch_id": held.current,
        "secret_id": secret_commitment(SECRET),
        "chunk_key": held.chunk_key,
        "manifest_key": held.manifest_key,
        "piece_key": held.piece_key,
        "cut_seed": held.cut_seed.to_bytes(8, "big"),
        "discovery_key": held.discovery_key(held.current),
        "seal_key": held.seal_key(held.current),
        "nonce_key": held.nonce_key(held.current),
        "bundle": pack_bundle(held),
        "wrapped": wrap_epoch(NEW, OLD, FOLDER),
    }
    assert {name: value.hex() for name, value in derived.items()} == VECTORS["folder_keys"]


def test_no_key_serves_two_uses_or_two_folders() -> None:
    def all_keys(held: FolderKeys) -> list[bytes]:
        epoch = held.current
        by_epoch = [held.discovery_key(epoch), held.seal_key(epoch), held.nonce_key(epoch)]
        return [held.chunk_key, held.manifest_key, held.piece_key, held.cut_seed.to_bytes(32, "big"), *by_epoch]

    # The folder ids differ in the last byte only: all of the id is bound.
    derived = all_keys(keys(FOLDER)) + all_keys(keys(OTHER)) + [keys().current, secret_commitment(SECRET)]
    assert len(set(derived)) == len(derived)


def test_chunk_ids_and_cut_points_outlive_epochs() -> None:
    before = keys()
    after = before.with_epoch(NEW, make_current=True)
    assert (after.chunk_key, after.manifest_key, after.cut_seed) == (
        before.chunk_key,
        before.manifest_key,
        before.cut_seed,
    )
    assert after.current == commitment(NEW) and set(after.epochs) == {before.current, after.current}
    assert after.seal_key(before.current) == before.seal_key(before.current) != after.seal_key(after.current)


def test_an_older_epoch_can_be_learnt_without_becoming_current() -> None:
    assert keys().with_epoch(NEW, make_current=False).current == keys().current


def test_an_epoch_whose_key_was_never_delivered_is_an_access_error() -> None:
    with pytest.raises(AccessError):
        keys().seal_key(commitment(NEW))


def test_an_epoch_under_another_keys_commitment_is_refused() -> None:
    with pytest.raises(CommitmentMismatch):
        FolderKeys(FOLDER, SECRET, {EpochId(bytes(32)): OLD}, EpochId(bytes(32)))


def test_keys_show_no_secret() -> None:
    assert "ssss" not in repr(keys()) and "oooo" not in repr(keys())


class TestBundle:
    def test_a_member_holds_what_the_box_carried(self) -> None:
        assert open_bundle(FOLDER, keys().current, SECRET_ID, pack_bundle(keys())) == keys()

    def test_an_owner_cannot_box_another_key_than_the_entry_commits_to(self) -> None:
        with pytest.raises(CommitmentMismatch):
            open_bundle(FOLDER, commitment(NEW), SECRET_ID, pack_bundle(keys()))

    def test_an_owner_cannot_box_another_secret_than_genesis_commits_to(self) -> None:
        held = keys()
        other = FolderKeys(FOLDER, b"t" * 32, held.epochs, held.current)
        with pytest.raises(CommitmentMismatch):
            open_bundle(FOLDER, held.current, SECRET_ID, pack_bundle(other))

    @pytest.mark.parametrize("bundle", [b"", b"\x01" * 64, b"\x01" * 66, b"\x02" + bytes(64)])
    def test_another_form_is_refused(self, bundle: bytes) -> None:
        with pytest.raises(MalformedMessage):
            open_bundle(FOLDER, keys().current, SECRET_ID, bundle)


class TestWrap:
    wrapped = wrap_epoch(NEW, OLD, FOLDER)

    def test_one_box_opens_the_history(self) -> None:
        assert unwrap_epoch(NEW, self.wrapped, FOLDER, commitment(OLD)) == OLD

    def test_another_key_folder_or_byte_does_not_open(self) -> None:
        flipped = bytes([self.wrapped[0] ^ 1]) + self.wrapped[1:]
        for key, wrapped, folder in ((OLD, self.wrapped, FOLDER), (NEW, self.wrapped, OTHER), (NEW, flipped, FOLDER)):
            with pytest.raises(AuthenticationFailed):
                unwrap_epoch(key, wrapped, folder, commitment(OLD))

    def test_a_key_of_another_epoch_is_noticed(self) -> None:
        with pytest.raises(CommitmentMismatch):
            unwrap_epoch(NEW, self.wrapped, FOLDER, commitment(b"x" * 32))
