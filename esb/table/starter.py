"""The project that `esb init` writes: a table of under 30 lines, a sample, and its own test."""

from __future__ import annotations

from pathlib import Path

_TABLE = """\
# What this bus does. Change it, run `esb check` and `esb test`, then restart `esb run`.
esb = 1

[bus]
name = "NAME"
http = "127.0.0.1:PORT"
plugins = "adapters"                       # drop your own adapters in here: esb plugin new NAME

[defaults]
owner = "you@example.org"

[target.out]                               # where orders go: a JSON file each, in the folder out
file = "out"
name = "{message.id}.json"

[route.orders]                             # POST /orders takes them as XML
about = "Orders as XML over HTTP"
from = { http = "POST /orders" }
do = [{ read = "xml", bad = "reply 422" }, { write = "json" }]
once = '{body.Order["@id"]}'               # the same order twice is one order
to = ["out"]

[[test]]
name = "an order becomes a JSON file"
route = "orders"
given = { file = "sample.xml" }
expect = { delivered = { out = 1 } }
"""
_SAMPLE = """\
<Order id="4711"><Customer>ACME</Customer><Total>12.50</Total></Order>
"""
_README = """\
Your own adapters: one Python file each. `esb plugin new NAME` writes a working one.
"""


def write(folder: Path, http_port: int) -> list[Path]:
    """Writes the project into a folder that is made; gives its files."""
    name = "".join(letter if letter.isalnum() else "-" for letter in folder.name.lower()).strip("-") or "bus"
    files = {
        "routes.toml": _TABLE.replace("NAME", name[:48], 1).replace("PORT", str(http_port)),
        "sample.xml": _SAMPLE,
        "adapters/README.md": _README,
    }
    made: list[Path] = []
    for relative, text in files.items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        made.append(path)
    (folder / "adapters").chmod(0o755)
    return made
