"""The wire format between nodes, version 1: MessagePack arrays, many deliveries (or receipts) of one queue in a frame.

A frame of deliveries is `[version, node, target, [parcel, ...]]`; one of receipts `[version, node, [receipt, ...]]`.
A later version adds fields at the end of an array; what is older is read with their defaults, what is newer is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from esb.errors import DecodeError
from esb.store.records import AttemptRecord, DeliveryState, Made, StoredDelivery

VERSION = 1
DELIVERIES = "application/vnd.esb.deliveries+msgpack"
RECEIPTS = "application/vnd.esb.receipts+msgpack"
MOST = 256
"""Deliveries of one frame at most."""
MOST_BYTES = 1 << 20
"""Bytes of one frame's bodies, about; a delivery with more than that goes to no broker (R24)."""


class Parcel(Struct, frozen=True, array_like=True):
    """One delivery on the wire: its row at the node that keeps it, and all that a lane needs. Times are
    seconds since the epoch."""

    row: int
    uid: str
    nr: int
    round: int
    route: str
    made: Made
    accepted_at: float
    since: float
    attempts: int
    maybe_sent: bool
    expires: float | None
    headers: Mapping[str, str]
    values: Mapping[str, str]
    media: str
    head: int
    body: bytes


class Frame(Struct, frozen=True, array_like=True):
    """Deliveries for one target, of the node whose outbox they wait in."""

    version: int
    node: str
    target: str
    parcels: Sequence[Parcel]


class DeliveryReceipt(Struct, frozen=True, array_like=True):
    """What became of one delivery (R23). `attempts` tells which sending of it: an outcome of an older one is a repeat.
    `state` "due" asks for it again `after` so many seconds; not `counts`: nothing was tried."""

    row: int
    uid: str
    attempts: int
    state: DeliveryState
    after: float = 0.0
    reason: str = ""
    counts: bool = True
    maybe_sent: bool = False
    note: str = ""
    answer: bytes | None = None
    decides: bool = True
    attempt: AttemptRecord | None = None


class ReceiptFrame(Struct, frozen=True, array_like=True):
    """Receipts for one node, of the node that delivered."""

    version: int
    node: str
    receipts: Sequence[DeliveryReceipt]


F = TypeVar("F", Frame, ReceiptFrame)

_encode = msgspec.msgpack.Encoder(enc_hook=str).encode
_frame = msgspec.msgpack.Decoder(Frame).decode
_receipts = msgspec.msgpack.Decoder(ReceiptFrame).decode


def parcel(row: StoredDelivery) -> Parcel:
    """A delivery whose bytes are in memory, ready to go."""
    assert row.content is not None
    return Parcel(
        row=row.row,
        uid=row.uid,
        nr=row.nr,
        round=row.round,
        route=row.route,
        made=row.made,
        accepted_at=row.accepted_at,
        since=row.since,
        attempts=row.attempts,
        maybe_sent=row.maybe_sent,
        expires=row.expires,
        headers=row.headers,
        values=row.values,
        media=row.media,
        head=row.head,
        body=row.content,
    )


def delivery(item: Parcel, target: str, number: int) -> StoredDelivery:
    """What a lane works on at the other end; `number` stands for its row there."""
    return StoredDelivery(
        row=number,
        message=0,
        uid=item.uid,
        route=item.route,
        target=target,
        nr=item.nr,
        round=item.round,
        made=item.made,
        accepted_at=item.accepted_at,
        due=0.0,
        order_key=None,
        attempts=item.attempts,
        crashes=0,
        maybe_sent=item.maybe_sent,
        expires=item.expires,
        headers=item.headers,
        values=item.values,
        media=item.media,
        size=len(item.body),
        head=item.head,
        content=item.body,
        since=item.since,
    )


def pack_deliveries(node: str, target: str, rows: Sequence[StoredDelivery]) -> bytes:
    """A frame as bytes."""
    return _encode(Frame(VERSION, node, target, [parcel(row) for row in rows]))


def read_deliveries(data: bytes) -> Frame:
    """A frame of deliveries; raises DecodeError for what is none, or is newer."""
    return _checked(_frame, data, "deliveries")


def pack_receipts(node: str, receipts: Sequence[DeliveryReceipt]) -> bytes:
    """A frame of receipts as bytes."""
    return _encode(ReceiptFrame(VERSION, node, receipts))


def read_receipts(data: bytes) -> ReceiptFrame:
    """A frame of receipts; raises DecodeError for what is none, or is newer."""
    return _checked(_receipts, data, "receipts")


def _checked(decode: Callable[[bytes], F], data: bytes, what: str) -> F:
    try:
        frame = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a frame of {what}: {error}", code="M297") from error
    if frame.version > VERSION:
        raise DecodeError(f"a frame of {what} of version {frame.version}: this esb reads {VERSION}", code="M297")
    return frame
