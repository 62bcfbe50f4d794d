"""The status page: plain HTML, readable without JavaScript, nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

_FOLDER = Path(__file__).with_name("templates")
_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


def status_page(
    status: Mapping[str, Any], account: Mapping[str, Any], held: Mapping[str, Any], *, inline: bool = False
) -> str:
    """The page. `inline` puts the style into it, for a file on its own."""
    style = (_FOLDER / "style.css").read_text() if inline else ""
    return _PAGES.get_template("status.html").render(status=status, account=account, held=held, style=style)
