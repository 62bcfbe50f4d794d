"""The small working project that `esb init` writes: a table, a sample message, a test, a folder for adapters."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from stat import S_IWGRP, S_IWOTH
from typing import Final

_FILES: Final = {"routes.toml": "routes.toml", "sample.xml": "sample.xml", "adapters.md": "adapters/README.md"}
_PORT: Final = "127.0.0.1:8080"


def write(folder: Path, http_port: int) -> list[Path]:
    """Writes the project and gives its files. The folder is made; nothing that is there already is overwritten:
    raises FileExistsError before anything was written. Others may not write into its folders, or adapters there
    would be refused."""
    texts = {folder / name: _text(template, http_port) for template, name in _FILES.items()}
    for path in texts:
        if path.exists():
            raise FileExistsError(f"{path} is there already")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(path.parent.stat().st_mode & ~(S_IWGRP | S_IWOTH))
        path.write_text(text, "utf-8")
    return list(texts)


def _text(template: str, http_port: int) -> str:
    text = (files("esb.table.starter") / template).read_text("utf-8")
    return text.replace(_PORT, f"127.0.0.1:{http_port}")
