"""`esb plugin check`: what `plugin new` writes keeps every law, and a plugin that breaks one is told which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from esb.cli import esb


def checked(folder: Path, kind: str, *changes: tuple[str, str]) -> tuple[int, dict[str, Any]]:
    """The exit code and the laws that are broken, of a new plugin after these changes."""
    runner = CliRunner()
    made = runner.invoke(esb, ["plugin", "new", "mine", "--kind", kind, "--folder", str(folder)])
    assert made.exit_code == 0, made.output
    path = folder / "mine.py"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    said = runner.invoke(esb, ["plugin", "check", str(path), "--json"])
    findings = json.loads(said.stdout)["findings"]
    return said.exit_code, {item["law"]: item["said"] for item in findings if not item["kept"]}


@pytest.mark.parametrize("kind", ["target", "source", "step"])
def test_a_new_plugin_keeps_every_law(tmp_path: Path, kind: str) -> None:
    assert checked(tmp_path, kind) == (0, {})


@pytest.mark.parametrize(
    ("kind", "change", "law", "said"),
    [
        (
            "step",
            ('if not isinstance(message.body, dict):\n            raise MessageError("mine wants an object: '
             'read the message first")', "message.body['id']"),
            "a message with bytes gives messages, or is refused",
            "TypeError",
        ),
        (
            "step",
            ('return [message.with_body({**message.body, self._field: "mine"})]', "return message"),
            "a message with a tree gives messages, or is refused",
            "not a sequence",
        ),
        (
            "step",
            ("return [message.with", "message.body['id'] = 'other'\n        return [message.with"),
            "it leaves the body that it was given",
            "other",
        ),
        ("step", ('{ mine = "stamp" }', "{ mine = 7 }"), "its example is accepted", "7"),
        (
            "target",
            ("raise Unavailable(", "raise RuntimeError("),
            "a delivery returns, or raises a DeliveryError",
            "translate foreign errors",
        ),
        ("target", ("body = await delivery.body()", "while True:\n            await asyncio.sleep(9)"),
         "a delivery returns, or raises a DeliveryError", "hangs"),
        ("source", ("while True:\n            lines", "return\n        while True:\n            lines"), "it runs until it is cancelled", "by itself"),
    ],
)  # fmt: skip
def test_a_law_that_is_broken_is_named_with_what_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, change: tuple[str, str], law: str, said: str
) -> None:
    monkeypatch.setattr("esb.conformance.HANG", 0.3)
    more = [("context.folder / options.path)", 'context.folder / "none" / "there")')] if kind == "target" else []
    code, broken = checked(tmp_path, kind, change, *(more if "RuntimeError" in change[1] else []))
    assert code == 1
    assert said in broken[law], broken
