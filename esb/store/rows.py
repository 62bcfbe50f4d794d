"""Messages as rows: what one acceptance will write, put together before its transaction begins."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from esb.store.records import Acceptance, NewBody, NewDelivery, NewMessage, Stored, StoredDelivery

Row = tuple[Any, ...]

pack = msgspec.msgpack.Encoder(enc_hook=str).encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode
_texts = msgspec.msgpack.Decoder(dict[str, str]).decode

WORST = {"superseded": 1, "dropped": 2, "delivered": 3, "expired": 4, "dead": 5}
"""How grave the end of a delivery is. The gravest of a message's deliveries names the message's own end."""
CLOSES = ("done", "superseded", "dropped", "done", "expired", "dead")
"""The end of a message whose gravest delivery is so grave."""

HELD = ("quarantined", "unmatched", "dead")
"""Messages that wait for a person when they ended so."""


class Numbers:
    """The last row numbers given out: rows know theirs before they are written, so that they go in in bulk. The loop
    and the store's thread both ask."""

    __slots__ = ("_lock", "body", "delivery", "message")

    def __init__(self, body: int = 0, message: int = 0, delivery: int = 0) -> None:
        self.body = body
        self.message = message
        self.delivery = delivery
        self._lock = threading.Lock()

    def next_body(self) -> int:
        """A number for a body; for one that is written as a file, before its row."""
        with self._lock:
            self.body += 1
            return self.body

    def next_message(self) -> int:
        """A number for a message."""
        with self._lock:
            self.message += 1
            return self.message

    def next_delivery(self) -> int:
        """A number for a delivery."""
        with self._lock:
            self.delivery += 1
            return self.delivery


class Once(NamedTuple):
    """The once-key of a message that is handed to another route: its life in seconds, its payload's SHA-256."""

    uid: str
    route: str
    caller: str
    key: str
    lives: float
    payload: bytes


class Draft:
    """All rows of one acceptance (or of one chunk of parts) and what it answers when they are on disk."""

    __slots__ = (
        "acceptance", "bodies", "deliveries", "files", "future", "keyed", "messages", "once", "ordered", "outcome",
        "rows",
    )  # fmt: skip

    def __init__(self, acceptance: Acceptance | None, future: asyncio.Future[Stored] | None) -> None:
        self.acceptance = acceptance
        self.future = future
        self.outcome: Stored | Exception | None = None
        self.bodies: list[Row] = []
        self.messages: list[Row] = []
        self.deliveries: list[Row] = []
        self.rows: list[StoredDelivery] = []
        self.keyed: list[tuple[str, str, int]] | None = None
        self.files: list[str] | None = None
        self.once: list[Once] | None = None
        self.ordered = False


def draft(acceptance: Acceptance, numbers: Numbers, now: float, future: asyncio.Future[Stored]) -> Draft:
    """The rows of an acceptance."""
    made = Draft(acceptance, future)
    message = acceptance.message
    row, state = add_message(made, message, numbers, now, sha256=acceptance.payload)
    made.outcome = Stored(uid=message.uid, state=state, message=row, deliveries=made.rows)
    return made


def add_message(
    to: Draft,
    new: NewMessage,
    numbers: Numbers,
    now: float,
    *,
    sha256: bytes = b"",
    parent: int | None = None,
    root: int | None = None,
) -> tuple[int, str]:
    """The rows of one message and of those it hands to other routes; gives its row and state."""
    row = numbers.next_message()
    body = add_body(to, new.body, numbers, sha256)
    left, worst = 1 if new.stage else 0, 0
    if new.deliveries:
        waiting, worst = add_deliveries(to, new, new.deliveries, row, body, new.body, numbers, now)
        left += waiting
    state: str = new.state
    if state == "open" and not left:
        state = CLOSES[worst]
    closed = None if state == "open" else now
    to.messages.append(
        (
            row, new.uid, new.made, parent, new.part, 1 if new.last else 0, root, new.caller, new.route,
            new.table_hash, new.accepted_at, new.stage, state, new.reason, left, worst, body,
            pack(new.headers) if new.headers else None, pack(new.source) if new.source else None,
            pack(new.keys) if new.keys else None, new.trace or None, new.expires,
            fingerprint(new.reason) if state in HELD else None, closed,
        )
    )  # fmt: skip
    if new.keys:
        to.keyed = [*(to.keyed or ()), *((value, name, row) for name, value in new.keys.items())]
    for made in new.made_messages:
        if made.once is not None:
            payload = made.body.sha256 or hashlib.sha256(made.body.data or b"").digest()
            to.once = [*(to.once or ()), Once(made.uid, made.route, made.caller, made.once, made.once_for, payload)]
        add_message(to, made, numbers, now, parent=row, root=root or row)
    return row, state


def add_body(to: Draft, body: NewBody, numbers: Numbers, sha256: bytes = b"") -> int:
    """The row of a body; a file's row has the number that names the file (R7)."""
    if body.file is not None:
        number = int(body.file)
        to.files = [*(to.files or ()), body.file]
    else:
        number = numbers.next_body()
    to.bodies.append((number, body.sha256 or sha256 or None, body.size, body.media, body.data, body.file))
    return number


def add_deliveries(
    to: Draft,
    message: Any,
    deliveries: Sequence[NewDelivery],
    row: int,
    body: int,
    shared: NewBody,
    numbers: Numbers,
    now: float,
) -> tuple[int, int]:
    """The rows of a message's deliveries; gives how many of them wait, and the gravest end of the others."""
    waiting = worst = 0
    known: dict[int, int] = {}
    alone = len(deliveries) == 1 and not message.stage
    for new in deliveries:
        number = numbers.next_delivery()
        own = shared if new.body is None else new.body
        place = body if new.body is None else known.get(id(own), 0)
        if not place:
            place = known[id(own)] = add_body(to, own, numbers)
        due: float | None = None
        if new.state in WORST:
            worst = max(worst, WORST[new.state])
        else:
            waiting += 1
            due = new.due if new.state == "due" else None
        if new.order_key is not None:
            to.ordered = True
        to.deliveries.append(
            (
                number, row, new.target, new.nr, new.state, due, new.order_key, None, None, place, own.size,
                _pack_params(new, own.media), new.expires, new.reason,
                None if new.state != "parked" else fingerprint(new.reason), None if new.state not in WORST else now,
            )
        )  # fmt: skip
        if due is not None and due <= now:
            to.rows.append(_due(number, row, message, new, own, place, alone))
    return waiting, worst


def _due(
    number: int, row: int, message: Any, new: NewDelivery, body: NewBody, body_id: int, alone: bool
) -> StoredDelivery:
    """A fresh delivery as its lane sees it, bytes included."""
    return StoredDelivery(
        row=number,
        message=row,
        uid=message.uid,
        route=message.route,
        target=new.target,
        nr=new.nr,
        round=0,
        made=message.made,
        accepted_at=message.accepted_at,
        due=new.due,
        order_key=new.order_key,
        attempts=0,
        crashes=0,
        maybe_sent=False,
        expires=new.expires,
        headers=message.headers if new.headers is None else new.headers,
        values=new.values,
        media=new.media or body.media,
        size=body.size,
        head=new.head,
        content=body.data,
        body_id=body_id,
        body_file=body.file,
        alone=alone,
    )


def _pack_params(new: NewDelivery, media: str) -> bytes | None:
    """The values of the target's `{CEL}` parts and the head; headers and media type where they differ from the
    message's."""
    other = new.media if new.media and new.media != media else None
    if not new.values and new.headers is None and other is None and not new.head:
        return None
    return pack(Params(new.values, new.headers, other, new.head))


class Params(Struct, frozen=True, array_like=True):
    """What a delivery has of its own: the values of the target's `{CEL}` parts, headers, media type, head."""

    values: Mapping[str, str] = {}
    headers: Mapping[str, str] | None = None
    media: str | None = None
    head: int = 0


_params = msgspec.msgpack.Decoder(Params).decode


def read_params(params: bytes | None) -> Params:
    """What `_pack_params` wrote, also in an older esb."""
    return Params() if params is None else _params(params)


def texts(packed: bytes | None) -> dict[str, str]:
    """Headers or keys of a message."""
    return {} if packed is None else _texts(packed)


def values(packed: bytes | None) -> dict[str, Any]:
    """What a message's source said, or an attempt's parameters."""
    return {} if packed is None else _unpack(packed)


_VARIES = re.compile(r"\"[^\"]*\"|'[^']*'|[0-9a-f]{8}-[0-9a-f-]{27}|(?<!status )(?<!\d)\d+")


def fingerprint(reason: str, cause: str = "") -> str:
    """What is alike in reasons that name different values: numbers (but a status), ids and what stands in quotes are
    left out."""
    alike = _VARIES.sub("#", reason[:300])[:100].strip()
    return f"{cause} {alike}".strip() if cause else alike
