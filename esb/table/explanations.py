"""The long explanation of a code: its page under docs/errors, shipped with the package."""

from __future__ import annotations

import re
from importlib.resources import files


def explanation(code: str) -> str | None:
    """The page of a code as text; None when there is none."""
    if not re.fullmatch(r"[A-Z]\d{3}", code):
        return None
    page = files("esb_errors") / f"{code}.md"
    return page.read_text("utf-8") if page.is_file() else None
