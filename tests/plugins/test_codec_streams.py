"""Large files are split in constant memory: measured on a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
ALLOWED = 60_000
"""Kilobytes more than before the first byte."""


def split(kind: str, megabytes: int, chunk: int = 262_144) -> dict[str, Any]:
    command = [sys.executable, str(TESTS / "codec_stream_run.py"), kind, str(megabytes), str(chunk)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert run.returncode == 0, run.stderr
    said: dict[str, Any] = json.loads(run.stdout)
    return said


@pytest.mark.parametrize("kind", ["xml", "json", "csv"])
def test_sixty_four_megabytes_with_ten_thousand_parts_cost_no_memory(kind: str) -> None:
    said = split(kind, 64)
    assert said["parts"] == 10_000
    assert said["bytes"] > 60_000_000
    assert said["kilobytes"] < ALLOWED


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["xml", "json", "csv"])
def test_three_hundred_megabytes_cost_no_memory(kind: str) -> None:
    said = split(kind, 300)
    assert said["parts"] == 10_000
    assert said["kilobytes"] < ALLOWED


@pytest.mark.parametrize("kind", ["xml", "json", "csv"])
def test_the_parts_are_the_same_whatever_the_chunks(kind: str) -> None:
    assert split(kind, 4, 1_000_000)["digest"] == split(kind, 4, 777)["digest"]
