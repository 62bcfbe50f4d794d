"""Archives in a watched folder: each member a message of its own, once; an archive that is not wholly sound gives none."""

from __future__ import annotations

import errno
import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from esb_plugins.file import archives, handover
from esb_plugins.file.archives import Unpack
from esb_plugins.file.handover import Handover, Piece
from file_bus import file_bus, until

from esb import Accept, MessageError, Size
from esb.bus import Bus

TABLE = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.out]
file = "out"
name = "{source.archive}-{source.member.replace('/', '_')}"
[route.files]
from = { file = "drop", settled = "50ms", every = "20ms", done = "drop/done", bad = "drop/bad", unpack = true }
keys = { member = "{source.member}" }
to = ["out"]
"""


def running(folder: Path, text: str = TABLE) -> AbstractAsyncContextManager[Bus]:
    return file_bus(folder, text)


def zipped(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


def tarred(members: dict[str, bytes], **fields: object) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def drop(folder: Path, name: str, data: bytes) -> None:
    """Whole at once, as by a sender that renames."""
    (folder / name).write_bytes(data)
    (folder / name).rename(folder / "drop" / name)


def delivered(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "out").glob("[!.]*")}


async def accepted(bus: Bus) -> int:
    account = await bus.store.account()
    assert account.balanced, account.differences
    return sum(item.entries.get("accepted", 0) for item in account.sums if item.book == "messages")


MEMBERS = {"b.txt": b"second by name", "sub/a.txt": b"a" * 70_000, "empty": b""}


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz", "ZIP"])
async def test_each_member_is_a_message_in_the_archives_order_and_the_archive_goes_to_done(
    tmp_path: Path, ending: str
) -> None:
    pack = {"zip": zipped, "tar": tarred}.get(ending.lower(), lambda members: gzip.compress(tarred(members)))
    async with running(tmp_path) as bus:
        drop(tmp_path, f"day.{ending}", pack(MEMBERS))
        await until((tmp_path / "drop" / "done" / f"day.{ending}").exists)
        await until(lambda: len(delivered(tmp_path)) == 3)
        rows = await bus.store.messages(limit=10)
        assert [row.keys["member"] for row in reversed(rows)] == list(MEMBERS)
        assert not list((tmp_path / "drop" / "work").iterdir())
    front = f"day.{ending}-"
    assert delivered(tmp_path) == {front + name.replace("/", "_"): data for name, data in MEMBERS.items()}


async def test_a_gz_is_one_member_and_a_plain_file_beside_it_goes_as_it_is(tmp_path: Path) -> None:
    text = TABLE.replace("{source.archive}-{source.member.replace('/', '_')}", "{source.name}").replace(
        'keys = { member = "{source.member}" }', ""
    )
    async with running(tmp_path, text):
        drop(tmp_path, "a.csv.gz", gzip.compress(b"1") + gzip.compress(b"2"))
        drop(tmp_path, "plain.csv", b"as it is")
        await until(lambda: len(delivered(tmp_path)) == 2)
        await until((tmp_path / "drop" / "done" / "a.csv.gz").exists)
    assert delivered(tmp_path) == {"a.csv": b"12", "plain.csv": b"as it is"}


async def test_headers_and_source_name_archive_and_member(tmp_path: Path) -> None:
    names = "{header['x-archive-name']} {header['x-archive-member'].replace('/', ':')} {header['x-file-name']}"
    text = TABLE.replace("{source.archive}-{source.member.replace('/', '_')}", names).replace(
        "{source.member}", "{source.archive_sha256}/{source.sha256}"
    )
    data = zipped({"sub/a.txt": b"a"})
    async with running(tmp_path, text) as bus:
        drop(tmp_path, "day.zip", data)
        await until(lambda: bool(delivered(tmp_path)))
        (row,) = await bus.store.messages(limit=10)
        assert len(row.keys["member"]) == 129
    assert list(delivered(tmp_path)) == ["day.zip sub:a.txt a.txt"]


async def test_a_crash_in_the_middle_of_an_archive_gives_no_second_message_r2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after no member, one, two, ... all: what was taken before is known again at each start."""
    monkeypatch.setattr(handover, "UNDER_WAY", 1)
    members = {f"{number}": b"%d" % number for number in range(4)}
    (tmp_path / "drop" / "work").mkdir(parents=True)
    (tmp_path / "drop" / "work" / f"{'3' * 32}.day.zip").write_bytes(zipped(members))
    offer = handover.Handover._offer
    limit, asked = 0, [0]

    async def until_the_limit(self: Handover, pieces: Sequence[Piece], accept: Accept) -> bool:
        asked[0] += 1
        if (asked[0] - 1) % 4 < limit:
            await offer(self, pieces, accept)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(handover.Handover, "_offer", until_the_limit)
        while limit < 5:
            async with running(tmp_path):
                await until(lambda: asked[0] >= 4)
            limit, asked[0] = limit + 1, 0
    async with running(tmp_path) as bus:
        await until((tmp_path / "drop" / "done" / "day.zip").exists)
        await until(lambda: len(delivered(tmp_path)) == 4)
        assert await accepted(bus) == 4
    assert delivered(tmp_path) == {f"day.zip-{name}": data for name, data in members.items()}


async def test_the_same_archive_again_is_new_messages_unless_once_says_otherwise_r3(tmp_path: Path) -> None:
    data = zipped({"a": b"1"})
    async with running(tmp_path, TABLE.replace("-{source.member", "{message.id}-{source.member")) as bus:
        for name in ("day.zip", "day-2.zip"):
            drop(tmp_path, "day.zip", data)
            await until((tmp_path / "drop" / "done" / name).exists)
        assert await accepted(bus) == 2
    once = TABLE.replace("keys =", 'once = "{source.archive_sha256}/{source.member}"\nkeys =')
    (tmp_path / "once").mkdir()
    async with running(tmp_path / "once", once) as bus:
        for name in ("day.zip", "day-2.zip"):
            drop(tmp_path / "once", "day.zip", data)
            await until((tmp_path / "once" / "drop" / "done" / name).exists)
        assert await accepted(bus) == 1


def encrypted() -> bytes:
    data = bytearray(zipped({"a": b"1"}))
    directory = data.rindex(b"PK\x01\x02")
    struct.pack_into("<H", data, 6, 1)
    struct.pack_into("<H", data, directory + 8, 1)
    return bytes(data)


def with_mode(mode: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("good", b"good")
        info = zipfile.ZipInfo("odd")
        info.external_attr = mode << 16
        archive.writestr(info, b"/etc/passwd")
    return made.getvalue()


def twice() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive, pytest.warns(UserWarning):
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    return made.getvalue()


def bzipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a", bytes(1000))
    return made.getvalue()


def spoilt(data: bytes, find: bytes) -> bytes:
    """One byte of a member changed: its checksum does not agree."""
    at = data.index(find)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def stored(name: str, data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("first", b"good")
        archive.writestr(name, data)
    return made.getvalue()


TAR = tarred({"good": b"good", "also": b"x" * 600})
REFUSED = {
    "absolute.zip": (lambda: stored("/etc/cron.d/x", b""), "absolute"),
    "drive.zip": (lambda: stored("C:\\x", b""), "absolute"),
    "up.zip": (lambda: stored("a/../../x", b""), "leads out"),
    "windows.zip": (lambda: stored("a\\..\\..\\x", b""), "leads out"),
    "nul.zip": (lambda: stored("axb", b"").replace(b"axb", b"a\0b"), "no file can have"),
    "link.zip": (lambda: with_mode(stat.S_IFLNK | 0o777), "a link or a device"),
    "fifo.zip": (lambda: with_mode(stat.S_IFIFO | 0o600), "a link or a device"),
    "secret.zip": (encrypted, "encrypted"),
    "twice.zip": (twice, "two members"),
    "method.zip": (bzipped, "packed by method 12"),
    "empty.zip": (lambda: zipped({}), "no file in it"),
    "cut.zip": (lambda: stored("x", b"y")[:-30], "cut off"),
    "sum.zip": (lambda: spoilt(stored("x", b"some text"), b"some text"), "cannot be read"),
    "none.zip": (lambda: b"id,n\n1,x\n", "cannot be read"),
    "up.tar": (lambda: tarred({"good": b"1", "../x": b""}), "leads out"),
    "absolute.tar": (lambda: tarred({"/x": b""}), "absolute"),
    "link.tar": (lambda: tarred({"x": b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a link or a device"),
    "hard.tar": (lambda: tarred({"x": b""}, type=tarfile.LNKTYPE, linkname="/etc/passwd"), "a link or a device"),
    "device.tar": (lambda: tarred({"x": b""}, type=tarfile.CHRTYPE, devmajor=1, devminor=5), "a link or a device"),
    "cut.tar": (lambda: TAR[:1200], "cannot be read"),
    "headless.tar": (lambda: TAR[:1024], "cut off"),
    "spoilt.tar": (lambda: TAR[:1024] + b"?" * 512 + TAR[1536:], "is no member"),
    "joined.tar": (lambda: TAR + TAR, "is no member"),
    "header.tar": (
        lambda: tarred({"x": b""}, type=tarfile.XHDTYPE).replace(b"00000000000", b"77777777777", 1),
        "cannot be read",
    ),
    "cut.tar.gz": (lambda: gzip.compress(TAR)[:-20], "cannot be read"),
    "cut.gz": (lambda: gzip.compress(b"x" * 1000)[:-3], "cannot be read"),
    "tail.gz": (lambda: gzip.compress(b"x") + b"more", "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_an_archive_that_is_not_wholly_sound_is_bad_as_a_whole_with_its_reason_faults_59(
    tmp_path: Path, name: str
) -> None:
    made, why = REFUSED[name]
    data = made()
    async with running(tmp_path) as bus:
        drop(tmp_path, name, data)
        reason = tmp_path / "drop" / "bad" / f"{name}.reason.txt"
        await until((tmp_path / "drop" / "bad" / name).exists)
        assert reason.read_text().startswith("M296 the archive is refused: ")
        assert why in reason.read_text()
        assert (tmp_path / "drop" / "bad" / name).read_bytes() == data
        await until(lambda: not list((tmp_path / "drop" / "work").iterdir()))
        assert await accepted(bus) == 0
    assert not delivered(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "limits", "why"),
    [
        ("a.zip", zipped({f"{number}": b"" for number in range(11)}), Unpack(files=10), "over 10 members"),
        ("a.zip", zipped({f"{number}": b"" for number in range(3000)}), Unpack(files=10), "a directory of"),
        ("a.tar", tarred({f"{number}": b"" for number in range(11)}), Unpack(files=10), "over 10 members"),
        ("a.zip", zipped({"a": b"x" * 600, "b": b"x" * 600}), Unpack(size=Size(1000)), "over 1kB unpacked"),
        ("a.tar.gz", gzip.compress(bytes(50_000_000)), Unpack(size=Size(1000)), "over 1kB unpacked"),
        ("a.zip", zipped({"a": bytes(5_000_000)}), Unpack(), "over 200 times larger"),
        ("a.gz", gzip.compress(bytes(5_000_000)), Unpack(), "over 200 times larger"),
        ("a.tar.gz", gzip.compress(tarred({"a": bytes(50_000_000)})), Unpack(), "over 200 times larger"),
    ],
)
def test_a_bomb_is_stopped_before_it_is_on_disk_faults_59(
    tmp_path: Path, name: str, data: bytes, limits: Unpack, why: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MessageError, match=why) as refused:
        archives.unpack(tmp_path / name, name, tmp_path / "scratch", limits)
    assert refused.value.code == "M296"
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir()) < 45_000_000


def test_a_size_that_lies_does_not_get_past_the_limit_faults_59(tmp_path: Path) -> None:
    """The directory says one byte; as many as it says are looked at, and the checksum finds the rest."""
    data = bytearray(zipped({"a": bytes(1_000_000)}))
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 1)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(MessageError, match="cannot be read"):
        archives.unpack(tmp_path / "a.zip", "a.zip", tmp_path / "scratch", Unpack())


@pytest.mark.parametrize("size", [-512, -10_240, -1])
def test_a_tar_whose_member_has_a_negative_size_comes_to_an_end(tmp_path: Path, size: int) -> None:
    """tarfile of 3.11 reads such a one for ever (CVE-2025-8194)."""
    data = bytearray(tarred({"a": b"1"}))
    data[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    data[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(data[:512]))[0]
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(MessageError, match="cannot be read"):
        archives.unpack(tmp_path / "a.tar", "a.tar", tmp_path / "scratch", Unpack())


CSV = TABLE.replace('to = ["out"]', 'do = [{ read = "csv" }, { write = "json" }]\nto = ["out"]')


async def test_a_member_that_cannot_be_read_comes_back_by_itself_and_the_others_go_out(tmp_path: Path) -> None:
    async with running(tmp_path, CSV):
        drop(tmp_path, "day.zip", zipped({"a.csv": b"id\n1\n", "sub/b.csv": b'id\n"open\n', "c.csv": b"id\n3\n"}))
        await until((tmp_path / "drop" / "done" / "day.zip").exists)
        await until(lambda: len(delivered(tmp_path)) == 2)
    bad = tmp_path / "drop" / "bad"
    assert {path.name for path in bad.iterdir()} == {"day.zip-2-b.csv", "day.zip-2-b.csv.reason.txt"}
    assert (bad / "day.zip-2-b.csv").read_bytes() == b'id\n"open\n'
    assert "esb quarantine show" in (bad / "day.zip-2-b.csv.reason.txt").read_text()


async def test_rejected_rows_of_a_member_come_back_under_its_name_r5(tmp_path: Path) -> None:
    text = TABLE.replace(
        'to = ["out"]', 'do = [{ read = "csv" }, { split = "rows" }, { write = "json" }]\nto = ["out"]'
    )
    async with running(tmp_path, text):
        drop(tmp_path, "day.zip", zipped({"a.csv": b"id\n1\n2,3\n"}))
        await until((tmp_path / "drop" / "done" / "day.zip").exists)
    assert (tmp_path / "drop" / "bad" / "day.zip-1-a.bad.csv").read_text().startswith("id,line,reason\n2,3,3,")


async def test_what_a_crash_left_returned_is_not_returned_again(tmp_path: Path) -> None:
    """The member lies in `bad` already; only the archive did not get to `done`."""
    (tmp_path / "drop" / "work").mkdir(parents=True)
    data = zipped({"b.csv": b'id\n"open\n'})
    for _ in range(2):
        (tmp_path / "drop" / "work" / f"{'4' * 32}.day.zip").write_bytes(data)
        async with running(tmp_path, CSV):
            await until(lambda: not list((tmp_path / "drop" / "work").iterdir()))
    assert len(list((tmp_path / "drop" / "bad").glob("*b.csv"))) == 1


async def test_an_archive_that_does_not_fit_on_the_disk_waits_and_is_taken_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = archives._copy, True

    def copy(*given: Any) -> Any:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*given)

    monkeypatch.setattr(archives, "_copy", copy)
    async with running(tmp_path) as bus:
        drop(tmp_path, "day.zip", zipped({"a": b"1"}))
        healths = bus.services.healths
        await until(lambda: "route.files" in healths and healths["route.files"].state == "degraded")
        assert "day.zip waits in work: No space left" in healths["route.files"].reason
        full = False
        await until((tmp_path / "drop" / "done" / "day.zip").exists)
        await until(lambda: list(delivered(tmp_path).values()) == [b"1"])
