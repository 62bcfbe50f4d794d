-- The store, version 1. Times are seconds since the epoch, UTC. Columns that later versions fill exist from the start.
CREATE TABLE node (
    id TEXT NOT NULL, generation INTEGER NOT NULL,
    clean INTEGER NOT NULL DEFAULT 1,              -- 0 while a bus has the store open
    seen REAL, boot TEXT, up REAL,                 -- the last time written down, and the machine's own count (R12)
    body INTEGER NOT NULL DEFAULT 0,               -- row numbers given out before anything was pruned,
    message INTEGER NOT NULL DEFAULT 0,            -- so that none is given out twice
    delivery INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE definition (hash TEXT PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE body (
    id INTEGER PRIMARY KEY, sha256 BLOB, size INTEGER NOT NULL, media TEXT NOT NULL DEFAULT '', encoding TEXT,
    key_id TEXT, data BLOB, file TEXT
) STRICT;
CREATE INDEX body_file ON body (id) WHERE file IS NOT NULL;
CREATE TABLE message (
    id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, made TEXT NOT NULL, parent INTEGER, part INTEGER,
    last INTEGER NOT NULL DEFAULT 0, root INTEGER, tenant TEXT, caller TEXT NOT NULL DEFAULT '', route TEXT NOT NULL,
    table_hash TEXT NOT NULL DEFAULT '', accepted_at REAL NOT NULL, stage TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    open INTEGER NOT NULL DEFAULT 0,               -- deliveries that wait, and 1 while planning is not finished
    worst INTEGER NOT NULL DEFAULT 0,              -- the gravest end of its deliveries so far
    body INTEGER,                                  -- NULL: pruned
    edited INTEGER,                                -- the body that replaced it; the original stays
    headers BLOB, source BLOB, keys BLOB, trace BLOB, parts INTEGER NOT NULL DEFAULT 0, expires REAL,
    fingerprint TEXT, closed_at REAL
) STRICT;
CREATE INDEX message_staged ON message (id) WHERE stage <> '';
CREATE INDEX message_parts ON message (parent, part) WHERE parent IS NOT NULL;
CREATE INDEX message_held ON message (state, id, route) WHERE state IN ('quarantined', 'unmatched', 'dead');
CREATE INDEX message_full ON message (route, closed_at)
    WHERE closed_at IS NOT NULL AND body IS NOT NULL AND state NOT IN ('quarantined', 'unmatched', 'dead');
CREATE INDEX message_bare ON message (route, closed_at)
    WHERE closed_at IS NOT NULL AND body IS NULL AND state NOT IN ('quarantined', 'unmatched', 'dead');
CREATE TABLE keyed (
    value TEXT NOT NULL, name TEXT NOT NULL, message INTEGER NOT NULL, PRIMARY KEY (value, name, message)
) STRICT, WITHOUT ROWID;
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY, message INTEGER NOT NULL, target TEXT NOT NULL, nr INTEGER NOT NULL DEFAULT 1,
    round INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL, due REAL, order_key TEXT, seq INTEGER,
    line INTEGER,                                  -- 1: stands in its key's line; 2: stuck, and the line parks
    attempts INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0, maybe_sent INTEGER NOT NULL DEFAULT 0,
    body INTEGER, edited INTEGER, size INTEGER NOT NULL DEFAULT 0, params BLOB, expires REAL, since REAL,
    holder TEXT, origin TEXT, error TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT '', fingerprint TEXT,
    ended_at REAL, UNIQUE (message, target, nr, round)
) STRICT;
CREATE INDEX delivery_due ON delivery (target, due, id) WHERE state = 'due' AND due IS NOT NULL;
CREATE INDEX delivery_tried ON delivery (target, id) WHERE state = 'due' AND attempts > 0;
CREATE INDEX delivery_line ON delivery (target, order_key, seq) WHERE line IS NOT NULL;
CREATE INDEX delivery_held ON delivery (state, id, target) WHERE state IN ('dead', 'parked');
CREATE TABLE attempt (
    delivery INTEGER NOT NULL, n INTEGER NOT NULL, at REAL NOT NULL, node TEXT NOT NULL DEFAULT '', class TEXT NOT NULL,
    code TEXT NOT NULL, place TEXT NOT NULL DEFAULT '', params BLOB, ms REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (delivery, n)
) STRICT, WITHOUT ROWID;                           -- structured, never prose: prose cannot be masked later
CREATE TABLE ledger (
    scope TEXT NOT NULL, key TEXT NOT NULL, sha256 BLOB, message TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
    answer_body BLOB, expires REAL NOT NULL, PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;                           -- `message` is its uid: entries outlive rows
CREATE INDEX ledger_message ON ledger (message);
CREATE INDEX ledger_expires ON ledger (expires);
CREATE TABLE cursor (
    source TEXT NOT NULL, name TEXT NOT NULL DEFAULT '', value BLOB, PRIMARY KEY (source, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE state (
    route TEXT NOT NULL, step TEXT NOT NULL, key TEXT NOT NULL, round INTEGER NOT NULL, version INTEGER, value BLOB,
    due REAL, PRIMARY KEY (route, step, key, round)
) STRICT;
CREATE TABLE timer (due REAL NOT NULL, kind TEXT NOT NULL, ref TEXT NOT NULL, PRIMARY KEY (due, kind, ref)) STRICT;
CREATE TABLE account (
    book TEXT NOT NULL, name TEXT NOT NULL, hour INTEGER NOT NULL, entry TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (book, name, hour, entry)
) STRICT, WITHOUT ROWID;
CREATE TABLE waiting (
    target TEXT PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;                           -- the backlog (R9), so that a start need not count it
CREATE TABLE crash (
    kind TEXT NOT NULL, key TEXT NOT NULL, n INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;                           -- claims and bodies under way when a process died (R15)
CREATE TABLE pause (
    scope TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, until REAL, by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE action (
    at REAL NOT NULL, actor TEXT NOT NULL, what TEXT NOT NULL, object TEXT NOT NULL, why TEXT NOT NULL DEFAULT ''
) STRICT;
