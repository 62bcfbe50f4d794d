"""What the floors above hand to the store and get back from it: plain values, no SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

Made = Literal["source", "part", "gathered", "replay", "route"]
MessageState = Literal[
    "open", "done", "quarantined", "unmatched", "dropped", "dead", "expired", "split", "gathered", "superseded"
]
DeliveryState = Literal["due", "forwarded", "parked", "delivered", "dead", "expired", "dropped", "superseded"]


class NewBody(Struct, frozen=True, kw_only=True):
    """Bytes to keep: `data`, or `file` when they already lie (fsynced) in the store's folder for bodies (R7).
    `sha256` may be left empty for delivery bodies; the store computes it where the schema wants it."""

    data: bytes | None = None
    file: str | None = None
    size: int = 0
    sha256: bytes = b""
    media: str = ""


class NewDelivery(Struct, frozen=True, kw_only=True):
    """One delivery of a planned message. `body` None shares the message's own body. `values` are those of the target's
    `{CEL}` options; `headers` are set where they differ from the message's; `head` is the delivery's. Times
    are seconds since the epoch."""

    target: str
    nr: int = 1
    body: NewBody | None = None
    due: float = 0.0
    order_key: str | None = None
    values: Mapping[str, str] = {}
    headers: Mapping[str, str] | None = None
    media: str = ""
    head: int = 0
    expires: float | None = None
    state: DeliveryState = "due"  # "parked" with `reason` when planned so
    reason: str = ""


class NewMessage(Struct, frozen=True, kw_only=True):
    """One message with all that its plan causes; committed whole or not at all.

    `stage` is how far planning came: "" when it is finished, else the place to go on from (R1). `state` is "open" while
    planning or deliveries are left. `parent` and `part` are the parent's uid and this part's index (from 1).
    `made_messages` are route hand-overs of the same commit; `once` is the once-key of such a one, from which its uid
    comes, and `once_for` for how many seconds a second one is a repeat. Messages come with their final `state` computed
    by the plan; the store turns "open" without deliveries and stage into "done".
    """

    uid: str
    made: Made
    route: str
    accepted_at: float
    body: NewBody
    headers: Mapping[str, str] = {}
    source: Mapping[str, Any] = {}
    caller: str = ""
    stage: str = ""
    state: MessageState = "open"
    reason: str = ""
    keys: Mapping[str, str] = {}
    trace: bytes = b""
    parent: str | None = None
    part: int | None = None
    last: bool = False
    table_hash: str = ""
    expires: float | None = None
    deliveries: Sequence[NewDelivery] = ()
    made_messages: Sequence[NewMessage] = ()
    once: str | None = None
    once_for: float = 7 * 86400.0


class Acceptance(Struct, frozen=True, kw_only=True):
    """What one `accept` commits. `key` is the once-key, `sender_key` the sender's own where that is another; `claim`
    the source's claim id (R2); `payload` the SHA-256 that tells a conflict; `once_for` in seconds."""

    message: NewMessage
    key: str | None = None
    sender_key: str | None = None
    claim: str | None = None
    payload: bytes = b""
    once_for: float = 7 * 86400.0
    source: str = ""
    checkpoint: tuple[str, bytes] | None = None


class StoredDelivery(Struct, kw_only=True):
    """A delivery row, as a lane works on it. `uid` is the message's; `attempts` counts the ones before;
    `content` is None for a body that is paged in from `body_file` (or read by `body_id`)."""

    row: int
    message: int
    uid: str
    route: str
    target: str
    nr: int
    round: int
    made: Made
    accepted_at: float
    due: float
    order_key: str | None
    attempts: int
    crashes: int
    maybe_sent: bool
    expires: float | None
    headers: Mapping[str, str]
    values: Mapping[str, str]
    media: str
    size: int
    head: int = 0
    content: bytes | None = None
    body_id: int = 0
    body_file: str | None = None
    alone: bool = False  # the only delivery of an open message: settling it closes the message
    since: float = 0.0  # when a person released it: its age and attempts count from there; 0: from its acceptance

    @property
    def id(self) -> str:
        """R13: `UID.TARGET`, `.n` for a second delivery to one target, `.rN` for a replay of something delivered."""
        name = f"{self.uid}.{self.target}"
        if self.nr > 1:
            name = f"{name}.{self.nr}"
        return f"{name}.r{self.round}" if self.round else name


class Stored(Struct, frozen=True, kw_only=True):
    """What became of an Acceptance. A duplicate carries the first message's uid, state and stored answer (bytes that
    intake wrote with `answer`); `deliveries` are the rows that are due now, in planned order."""

    uid: str
    duplicate: bool = False
    state: str = "open"
    answer: bytes | None = None
    message: int = 0
    deliveries: Sequence[StoredDelivery] = ()


class AttemptRecord(Struct, frozen=True, kw_only=True):
    """A failed attempt: structured, never prose. `kind` is the error class; `ms` how long it took."""

    n: int
    at: float
    kind: str
    code: str
    place: str = ""
    params: Mapping[str, Any] = {}
    ms: float = 0.0


class Settlement(Struct, frozen=True, kw_only=True):
    """The outcome of an attempt (or of no attempt: expiry, discard). `state` "due" with `due` schedules a retry.

    The store ends the message when its last delivery ends, promotes the next row of an order key (R14) and writes the
    books, all in one transaction. `answer` goes to the ledger of the message's once-key (R6): at once where this
    delivery `decides`, else when it was the last and the message is done.
    """

    delivery: StoredDelivery
    state: DeliveryState
    due: float | None = None
    reason: str = ""
    attempt: AttemptRecord | None = None
    counts: bool = True  # an attempt was made: `attempts` goes up
    maybe_sent: bool = False
    note: str = ""
    answer: bytes | None = None
    decides: bool = True
    when_stuck: Literal["block", "skip", "park-key"] = "block"


class MessageFate(Struct, frozen=True):
    """Where a message stands: its state and reason, the planning that is left (`stage`), the parts made so far."""

    state: str
    reason: str
    stage: str
    parts: int


class Whereabouts(Struct, frozen=True):
    """What a sender may know of its message: the route and the caller that it came by, and its state."""

    route: str
    caller: str
    state: str


class KeptPause(Struct, frozen=True):
    """A pause that outlives a restart."""

    scope: str
    name: str
    reason: str
    until: float | None
    by: str


class Settled(Struct, frozen=True, kw_only=True):
    """What a settlement caused: the message's state now, and the rows that became due because of it."""

    state: str
    promoted: Sequence[StoredDelivery] = ()


class OpenMessage(Struct, frozen=True, kw_only=True):
    """A message whose planning is not finished (`stage`), or one that is planned again (quarantine release)."""

    row: int
    uid: str
    made: Made
    route: str
    caller: str
    accepted_at: float
    stage: str
    headers: Mapping[str, str]
    source: Mapping[str, Any]
    table_hash: str
    body: bytes | None
    body_file: Path | None
    media: str
    size: int
    parts_done: int = 0
    parent: str | None = None
    part: int | None = None
    last: bool = False
    trace: bytes = b""


class Progress(Struct, frozen=True, kw_only=True):
    """One chunk of work on an open message: the parts (or the finished plan) it made, and where it stands now.

    `next_index` and `cursor` are the parent's place (R5). `state` "open" goes on; any other closes the planning:
    "split" when parts were made, "done"-like states from a plan. `deliveries` are its own, for a message planned later.
    """

    message: OpenMessage
    made: Sequence[NewMessage] = ()
    deliveries: Sequence[NewDelivery] = ()
    stage: str = ""
    next_index: int = 0
    state: MessageState = "open"
    reason: str = ""
    trace: bytes | None = None
