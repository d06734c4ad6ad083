"""Statements of one device about a folder, signed as sent: stored records, receipts, log heads, checkpoints.

Invariant: a body is used only after the signature over exactly its bytes verified for the device that it names.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record, decode, encode
from meshsync.crypto.identity import DeviceKeys
from meshsync.crypto.signing import verify
from meshsync.errors import IntegrityError
from meshsync.ids import FolderId, short
from meshsync.metalog.fields import Device, Folder, Seq, Signature, check_version


class Statement(Record, frozen=True):
    """Base of a signed body: `device` is who states and signs it."""

    version: Seq
    folder: Folder
    device: Device


class _Signed(Record, frozen=True):
    body: Annotated[bytes, msgspec.Meta(max_length=limits.STORED_RECORD_BYTES_MAX)]
    signature: Signature


S = TypeVar("S", bound=Statement)


def sign_statement(keys: DeviceKeys, kind: str, statement: Statement) -> bytes:
    """Return the bytes of `statement` with the signature of `keys` in the domain `kind`.

    `statement.device` must be the device of `keys`.
    """
    assert statement.device == keys.device, "a statement is signed by the device that it names"
    body = encode(statement)
    return encode(_Signed(body, keys.sign(kind, body)))


def read_statement(data: bytes, shape: type[S], size_max: int) -> S:
    """Return the body of a statement that was verified when it was taken. Raises MalformedMessage."""
    return decode(shape, decode(_Signed, data, size_max).body, size_max)


def open_statement(data: bytes, kind: str, shape: type[S], folder: FolderId, size_max: int) -> S:
    """Return the verified body of `data`, of type `shape`.

    Raises MalformedMessage, FormatUnsupported (a newer version), SignatureInvalid, or IntegrityError if the statement
    is about another folder than `folder`. Whether the device may state it is for the caller to ask the membership.
    """
    signed = decode(_Signed, data, size_max)
    check_version(signed.body, kind)
    statement = decode(shape, signed.body, size_max)
    verify(statement.device, kind, signed.body, signed.signature)
    if statement.folder != folder:
        raise IntegrityError(
            f"a {kind} of another folder ({short(statement.folder)})",
            device=short(statement.device),
            folder=short(folder),
        )
    return statement
