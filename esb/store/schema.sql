-- The store, version 1. Times are seconds since the epoch, UTC. Columns that later versions fill exist from the start.
CREATE TABLE node (id TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT;
CREATE TABLE mark (name TEXT PRIMARY KEY, value ANY) STRICT;               -- clean end, last time seen
CREATE TABLE definition (hash TEXT PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE body (
    id INTEGER PRIMARY KEY, sha256 BLOB, size INTEGER NOT NULL, media TEXT NOT NULL DEFAULT '', encoding TEXT,
    key_id TEXT, data BLOB, file TEXT
) STRICT;
CREATE TABLE message (
    id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, made TEXT NOT NULL, parent INTEGER, part INTEGER,
    last INTEGER NOT NULL DEFAULT 0, root INTEGER, tenant TEXT, caller TEXT NOT NULL DEFAULT '', route TEXT NOT NULL,
    table_hash TEXT NOT NULL DEFAULT '', accepted_at REAL NOT NULL, stage TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', open INTEGER NOT NULL DEFAULT 0, body INTEGER,
    headers BLOB NOT NULL, source BLOB NOT NULL, keys BLOB, trace BLOB, parts INTEGER NOT NULL DEFAULT 0,
    edited INTEGER, expires REAL, closed_at REAL
) STRICT;
CREATE INDEX message_staged ON message (id) WHERE stage <> '';
CREATE INDEX message_held ON message (state, route, id) WHERE state IN ('quarantined', 'unmatched', 'dead');
CREATE INDEX message_parts ON message (parent, part) WHERE parent IS NOT NULL;
CREATE INDEX message_closed ON message (route, closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX message_route ON message (route, id);
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY, message INTEGER NOT NULL, target TEXT NOT NULL, nr INTEGER NOT NULL DEFAULT 1,
    round INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL, due REAL, order_key TEXT, seq INTEGER, line INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0, maybe_sent INTEGER NOT NULL DEFAULT 0,
    body INTEGER, size INTEGER NOT NULL DEFAULT 0, params BLOB, expires REAL, holder TEXT, origin TEXT,
    error TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT '', ended_at REAL,
    UNIQUE (message, target, nr, round)
) STRICT;
CREATE INDEX delivery_due ON delivery (target, due, id) WHERE state = 'due' AND due IS NOT NULL;
CREATE INDEX delivery_line ON delivery (target, order_key, id) WHERE line = 1;
CREATE INDEX delivery_held ON delivery (state, target, id) WHERE state IN ('dead', 'parked');
CREATE TABLE attempt (
    delivery INTEGER NOT NULL, n INTEGER NOT NULL, at REAL NOT NULL, node TEXT NOT NULL DEFAULT '', class TEXT NOT NULL,
    code TEXT NOT NULL, place TEXT NOT NULL DEFAULT '', params BLOB, ms REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (delivery, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger (
    scope TEXT NOT NULL, key TEXT NOT NULL, sha256 BLOB, message TEXT NOT NULL, state TEXT NOT NULL DEFAULT '',
    answer_body BLOB, expires REAL, PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_message ON ledger (message);
CREATE INDEX ledger_expires ON ledger (expires) WHERE expires IS NOT NULL;
CREATE TABLE cursor (source TEXT NOT NULL, name TEXT NOT NULL, value BLOB, PRIMARY KEY (source, name)) STRICT;
CREATE TABLE state (
    route TEXT NOT NULL, step TEXT NOT NULL, key TEXT NOT NULL, round INTEGER NOT NULL, version INTEGER, value BLOB,
    due REAL, PRIMARY KEY (route, step, key, round)
) STRICT;
CREATE TABLE timer (due REAL NOT NULL, kind TEXT NOT NULL, ref TEXT NOT NULL, PRIMARY KEY (due, kind, ref)) STRICT;
CREATE TABLE account (
    book TEXT NOT NULL, name TEXT NOT NULL, hour INTEGER NOT NULL, entry TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (book, name, hour, entry)
) STRICT, WITHOUT ROWID;
CREATE TABLE pause (
    scope TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, until REAL, by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (scope, name)
) STRICT;
CREATE TABLE action (
    at REAL NOT NULL, actor TEXT NOT NULL, what TEXT NOT NULL, object TEXT NOT NULL, why TEXT NOT NULL DEFAULT ''
) STRICT;
