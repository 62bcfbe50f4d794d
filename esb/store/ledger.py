"""The ledger: once-keys and claims, looked up and written in the transaction of what they guard (R2, R3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from esb.errors import Conflict
from esb.ids import derived_uid
from esb.store.records import Acceptance, Stored
from esb.store.rows import Draft
from esb.store.work import Work

CLAIM = "claim"
CLAIMS_FOR = 90 * 86400.0
"""Seconds that a claim is kept at least: a source may stand still for long before it comes to its own ack."""

_FIND = """SELECT l.sha256, l.message, coalesce(m.state, l.state), l.answer_body, l.expires, coalesce(m.id, 0)
FROM ledger l LEFT JOIN message m ON m.uid = l.message WHERE l.scope = ? AND l.key = ?"""
_WRITE = """INSERT INTO ledger (scope, key, sha256, message, state, expires) VALUES (?, ?, ?, ?, 'open', ?)
ON CONFLICT (scope, key) DO UPDATE SET sha256 = excluded.sha256, message = excluded.message, state = excluded.state,
answer_body = NULL, expires = excluded.expires"""
_CURSOR = """INSERT INTO cursor (source, name, value) VALUES (?, '', ?)
ON CONFLICT (source, name) DO UPDATE SET value = excluded.value"""

Name = tuple[str, str]


def once_scope(route: str, caller: str) -> str:
    """Keys belong to a route and a caller, so that no caller reads another's answer."""
    return f"once:{route}:{caller}"


def sent_scope(route: str, caller: str) -> str:
    """The sender's own keys, where the route has a once-key beside them."""
    return f"sent:{route}:{caller}"


def names(acceptance: Acceptance) -> list[Name]:
    """What an acceptance is recognised by: its claim, the sender's own key, then its once-key."""
    found: list[Name] = []
    if acceptance.claim is not None:
        found.append((CLAIM, f"{acceptance.source or acceptance.message.route}:{acceptance.claim}"))
    if acceptance.sender_key is not None:
        found.append((sent_scope(acceptance.message.route, acceptance.message.caller), acceptance.sender_key))
    if acceptance.key is not None:
        found.append((once_scope(acceptance.message.route, acceptance.message.caller), acceptance.key))
    return found


def admit(work: Work, drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts that are new, with their entries written; the others know their outcome (Stored or Conflict)."""
    fresh: list[Draft] = []
    inside: dict[Name, Draft] = {}
    rows: list[tuple[str, str, bytes, str, float]] = []
    for item in drafts:
        acceptance = item.acceptance
        if acceptance is None or (acceptance.key is None and acceptance.claim is None):
            fresh.append(item)
            continue
        asked = names(acceptance)
        known = _known(work, acceptance, asked, inside)
        item.outcome = item.outcome if known is None else known
        if isinstance(known, Conflict):
            continue
        if known is None:
            fresh.append(item)
            inside.update(dict.fromkeys(asked, item))
        rows += _entries(item, asked, known, work.now)
    if rows:
        work.db.executemany(_WRITE, rows)
    return fresh


def cursors(work: Work, drafts: Sequence[Draft]) -> None:
    """Where the sources stand now: written also for a message that was known already."""
    for item in drafts:
        acceptance = item.acceptance
        if acceptance is not None and acceptance.checkpoint is not None and isinstance(item.outcome, Stored):
            work.db.execute(_CURSOR, acceptance.checkpoint)


def _known(
    work: Work, acceptance: Acceptance, asked: Sequence[Name], inside: dict[Name, Draft]
) -> Stored | Conflict | None:
    """The first message under one of these names: in this batch, or in the ledger; None for a new one."""
    for name in asked:
        first = inside.get(name)
        if first is not None and isinstance(first.outcome, Stored) and first.acceptance is not None:
            if name[0] != CLAIM and first.acceptance.payload != acceptance.payload:
                return _conflict(name)
            return Stored(uid=first.outcome.uid, duplicate=True, state=first.outcome.state)
        found = work.db.execute(_FIND, name).fetchone()
        if found is None or work.over(found[4]):
            continue
        if name[0] != CLAIM and found[0] != acceptance.payload:
            return _conflict(name)
        return Stored(uid=found[1], duplicate=True, state=found[2], answer=found[3], message=found[5])
    return None


def _conflict(name: Name) -> Conflict:
    return Conflict(f"the key {name[1]!r:.80} was used before with another payload")


def _entries(
    item: Draft, asked: Sequence[Name], known: Stored | None, now: float
) -> list[tuple[str, str, bytes, str, float]]:
    """The rows of a new message; of a known key, only the claim that met it, so that a re-read claim is finished."""
    acceptance = item.acceptance
    assert acceptance is not None
    lives = {CLAIM: now + max(CLAIMS_FOR, acceptance.once_for)}
    if known is not None:
        asked = [] if len(asked) == 1 else [name for name in asked if name[0] == CLAIM]
    uid = item.outcome.uid if isinstance(item.outcome, Stored) else acceptance.message.uid
    return [(*name, acceptance.payload, uid, lives.get(name[0], now + acceptance.once_for)) for name in asked]


def resolve_repeat(work: Work, item: Draft) -> bool:
    """What to do about a uid that is on disk already (looked at when a batch failed): True when the draft is a repeat.

    A key used anew after its time has the uid of its first message, derived from it; while that one is still kept, the
    new one gets its own. Any other uid names one message: the draft is its repeat, and nothing is written.
    """
    acceptance = item.acceptance
    if acceptance is None:
        return False
    uid = acceptance.message.uid
    found = work.db.execute("SELECT id, state FROM message WHERE uid = ?", (uid,)).fetchone()
    if found is None:
        return False
    if acceptance.key is None:
        item.outcome = Stored(uid=uid, duplicate=True, state=found[1], message=found[0])
        return True
    known = work.db.execute(_FIND, names(acceptance)[-1]).fetchone()
    if known is None or work.over(known[4]):
        _rename(item, derived_uid(uid, "again", repr(acceptance.message.accepted_at)))
    return False


def admit_handed(work: Work, drafts: Sequence[Draft]) -> Mapping[int, str]:
    """Of the messages that drafts hand to routes with a once-key, those that are known are not made again; the others
    get their entries. The message that would have made one says so; gives what those are to say that stand in no draft,
    by their rows."""
    notes: dict[int, str] = {}
    for item in drafts:
        for once in item.once or ():
            place = next((index for index, row in enumerate(item.messages) if row[1] == once.uid), None)
            if place is None:
                continue  # it went with the one that would have handed it on
            name = (once_scope(once.route, once.caller), once.key)
            found = work.db.execute(_FIND, name).fetchone()
            if found is not None and not work.over(found[4]):
                other = "" if found[0] == once.payload else ", with another body"
                reason = f"duplicate: route {once.route} has the key {once.key!r:.80} already{other}"
                _leave_out(work, item, place, reason, notes)
                continue
            uid = once.uid
            if work.db.execute("SELECT 1 FROM message WHERE uid = ?", (uid,)).fetchone() is not None:
                uid = derived_uid(uid, "again", repr(work.now))
                _renamed(item, place, uid)
            work.db.execute(_WRITE, (*name, once.payload, uid, work.now + once.lives))
    return notes


def _leave_out(work: Work, item: Draft, place: int, reason: str, notes: dict[int, str]) -> None:
    """A message's rows out of the draft, and those of what it hands on. Its row is as rows.add_message made it."""
    gone = item.messages.pop(place)
    bodies = {gone[16], *(row[9] for row in item.deliveries if row[1] == gone[0])}
    files = {row[5] for row in item.bodies if row[0] in bodies and row[5] is not None}
    work.loose += files
    item.files = None if item.files is None else [name for name in item.files if name not in files]
    item.bodies = [row for row in item.bodies if row[0] not in bodies]
    item.deliveries = [row for row in item.deliveries if row[1] != gone[0]]
    item.rows[:] = [row for row in item.rows if row.message != gone[0]]
    item.keyed = None if item.keyed is None else [row for row in item.keyed if row[2] != gone[0]]
    maker = next((index for index, row in enumerate(item.messages) if row[0] == gone[3]), None)
    if maker is None:
        notes[gone[3]] = reason
    else:
        cells = list(item.messages[maker])
        cells[13] = cells[13] or reason
        item.messages[maker] = tuple(cells)
    while (child := next((at for at, row in enumerate(item.messages) if row[3] == gone[0]), None)) is not None:
        _leave_out(work, item, child, reason, notes)


def _rename(item: Draft, uid: str) -> None:
    """Another uid for the draft's own message."""
    _renamed(item, 0, uid)
    if isinstance(item.outcome, Stored):
        before = item.outcome
        item.outcome = Stored(uid=uid, state=before.state, message=before.message, deliveries=before.deliveries)


def _renamed(item: Draft, place: int, uid: str) -> None:
    row, _, *rest = item.messages[place]
    item.messages[place] = (row, uid, *rest)
    for delivery in item.rows:
        if delivery.message == row:
            delivery.uid = uid


def answer(work: Work, uid: str, data: bytes) -> None:
    """The answer of a message, for repeats of its key (R6)."""
    work.db.execute("UPDATE ledger SET answer_body = ? WHERE message = ?", (data, uid))


def close(work: Work, uids: Sequence[tuple[str, str]]) -> None:
    """Keeps the end of messages that are pruned: (state, uid) each."""
    work.db.executemany("UPDATE ledger SET state = ? WHERE message = ?", uids)


def forget(work: Work, limit: int) -> int:
    """Entries whose time is over, `limit` at most."""
    gone = work.db.execute(
        "DELETE FROM ledger WHERE (scope, key) IN (SELECT scope, key FROM ledger WHERE expires <= ? LIMIT ?)",
        (work.now, limit),
    )
    return gone.rowcount
