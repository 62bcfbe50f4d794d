"""Lines with effect once: what was answered for is there once, what failed or tore never counts."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from esb_plugins.file import journal as module
from esb_plugins.file.journal import Journal
from hypothesis import given, settings
from hypothesis import strategies as st

NOTES = ".esb-all.jsonl.journal"


def make(folder: Path) -> Journal:
    return Journal(folder, "all.jsonl")


def test_a_line_is_written_once_and_half_a_line_is_cut_off(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.append("one", b"first\n")
    journal.append("two", b"second\n")
    with (tmp_path / "all.jsonl").open("r+b") as file:
        file.truncate(9)
    again = make(tmp_path)
    assert again.has("one")
    assert not again.has("two")
    again.append("two", b"second\n")
    assert (tmp_path / "all.jsonl").read_bytes() == b"first\nsecond\n"


def test_half_of_the_very_first_line_is_cut_off(tmp_path: Path) -> None:
    make(tmp_path).append("a", b"123456789\n")
    with (tmp_path / "all.jsonl").open("r+b") as file:
        file.truncate(5)
    make(tmp_path).append("a", b"123456789\n")
    assert (tmp_path / "all.jsonl").read_bytes() == b"123456789\n"


@pytest.mark.parametrize("written", [0, 3, 6])
def test_a_line_that_could_not_be_written_is_never_taken_for_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    journal, real = make(tmp_path), module.write_at

    def full(path: Path, data: bytes, at: int) -> None:
        if path.name == "all.jsonl":
            real(path, data[:written], at)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data, at)

    monkeypatch.setattr(module, "write_at", full)
    with pytest.raises(OSError):
        journal.append("a", b"first\n")
    monkeypatch.setattr(module, "write_at", real)
    assert not journal.has("a")
    journal.append("b", b"second line\n")
    assert (tmp_path / "all.jsonl").read_bytes() == b"second line\n"
    again = make(tmp_path)
    assert again.has("b")
    assert not again.has("a"), "the delivery would be lost: its repeat is answered as written"


def test_a_crash_before_the_mending_does_not_make_a_failed_line_count(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.append("b", b"second line\n")
    entry = (tmp_path / NOTES).read_text().splitlines()[-2].split(" ")
    (tmp_path / NOTES).write_text(f"{entry[0]} 0 6 1 all.jsonl a\n" + " ".join(entry) + "\n")
    again = make(tmp_path)
    assert again.has("b")
    assert not again.has("a")


def test_a_file_that_its_reader_moved_away_begins_anew_and_its_lines_are_not_written_again(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.append("a", b"one\n")
    (tmp_path / "all.jsonl").rename(tmp_path / "taken")
    journal.append("b", b"two\n")
    assert (tmp_path / "all.jsonl").read_bytes() == b"two\n"
    again = make(tmp_path)
    assert again.has("a")
    assert again.has("b")


def test_a_line_that_was_not_written_before_its_file_was_moved_away_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the note and the line, and then the reader takes the file."""
    journal, real = make(tmp_path), module.write_at
    journal.append("a", b"one\n")

    def killed(path: Path, data: bytes, at: int) -> None:
        if path.name == "all.jsonl":
            raise KeyboardInterrupt
        real(path, data, at)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "write_at", killed)
        journal.append("b", b"two\n")
    (tmp_path / "all.jsonl").rename(tmp_path / "taken")
    again = make(tmp_path)
    assert again.has("a")
    assert not again.has("b"), "it would be lost: it is in no file"


def test_what_another_program_appended_stays(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.append("a", b"one\n")
    with (tmp_path / "all.jsonl").open("ab") as file:
        file.write(b"theirs\n")
    journal.append("b", b"two\n")
    assert (tmp_path / "all.jsonl").read_bytes() == b"one\ntheirs\ntwo\n"
    assert make(tmp_path).has("a")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["whole", "torn", "restart"])), max_size=12))
def test_in_any_order_of_failures_and_restarts_each_answered_line_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    journal, answered = make(folder), set()
    for name, event in events:
        if event == "restart":
            journal = make(folder)
        elif event == "torn" and not journal.has(name):
            with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError):
                patch.setattr(module, "write_at", _tearing)
                journal.append(name, f"{name}{name}{name}\n".encode())
        elif not journal.has(name):
            journal.append(name, f"{name}{name}{name}\n".encode())
            answered.add(name)
        else:
            assert name in answered
    make(folder)
    lines = (folder / "all.jsonl").read_text().splitlines() if (folder / "all.jsonl").exists() else []
    assert sorted(lines) == sorted(f"{name}{name}{name}" for name in answered)


_REAL = module.write_at


def _tearing(path: Path, data: bytes, at: int) -> None:
    _REAL(path, data[:2] if path.name == "all.jsonl" else data, at)
    if path.name == "all.jsonl":
        raise OSError(errno.EIO, "Input/output error")
