"""Every command of the tutorial, the jobs and the other pages with blocks is typed in the situation that its page
describes, ends as the page implies and prints what the page shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from documents import ROOT, Neighbour, Reader, blocks, commands, free_port, reading, shows

DOCS = ROOT / "docs"
SAMPLE = (ROOT / "esb" / "table" / "starter" / "sample.xml").read_text()
NOT_RUN = {
    ("README.md", "make demo"): "installs and takes a minute; it has a test of its own time in CI",
    ("README.md", "make test"): "is what runs this",
}
"""What is not typed here, and why."""
ELSEWHERE = {
    "README.md": "tests/acceptance/test_readme.py",
    "docs/commands.md": "tests/acceptance/test_docs_night.py",
}
"""Pages whose blocks another file types. The examples of error pages: tests/house/test_error_examples.py."""
Situation = Callable[[Reader, ExitStack], dict[int, Callable[[], object]]]
"""Makes what a page takes for granted; gives what happens before a block, by its number among the shell's blocks."""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with reading(tmp_path) as made:
        yield made


def walk(page: Path, reader: Reader, before: dict[int, Callable[[], object]]) -> None:
    """The blocks of a page, in order."""
    number = 0
    for block in blocks(page):
        if block.kind in ("sh", "console"):
            number += 1
            before.get(number, lambda: None)()
        reader.follow(block)


def test_the_tutorial(reader: Reader) -> None:
    reader.ports = {"8080": free_port()}

    def in_the_shop() -> None:
        reader.folder = reader.folder / "shop"

    walk(DOCS / "tutorial.md", reader, {2: in_the_shop})


def neighbour(reader: Reader, stack: ExitStack, port: str) -> Neighbour:
    """The system behind a target of the page."""
    made = Neighbour()
    reader.ports[port] = made.port
    stack.enter_context(made.there())
    return made


def posted(made: Neighbour, count: int) -> list[tuple[str, bytes]]:
    """What it took, when it took so many."""
    deadline = time.monotonic() + 20
    while len(made.bodies) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(made.bodies) == count
    return sorted(made.bodies)


def job(reader: Reader, name: str, before: dict[int, Callable[[], object]] | None = None) -> None:
    reader.ports.setdefault("8080", free_port())
    walk(DOCS / "jobs" / f"{name}.md", reader, before or {})


def test_the_job_csv_folder_to_http(reader: Reader) -> None:
    with ExitStack() as stack:
        erp = neighbour(reader, stack, "9001")
        job(reader, "csv-folder-to-http")
        assert [body for _, body in posted(erp, 2)] == [b'{"id":"4711","total":120.50}', b'{"id":"4713","total":80.00}']


def test_the_job_expire_and_order(reader: Reader) -> None:
    with ExitStack() as stack:
        machines = neighbour(reader, stack, "9006")
        machines.answer = lambda path, body: (503, b"off") if path.endswith("/M1") else (200, b"done")
        job(reader, "expire-and-order")
        assert [path for path, _ in posted(machines, 1)] == ["/machines/M2"]


def test_the_job_zip_to_rolling_csv(reader: Reader) -> None:
    job(reader, "zip-to-rolling-csv")


def test_the_job_file_to_file_json(reader: Reader) -> None:
    job(reader, "file-to-file-json")


def test_the_job_http_request_reply(reader: Reader) -> None:
    with ExitStack() as stack:
        stock = neighbour(reader, stack, "9003")
        stock.answer = lambda path, body: (200, b'{"article": "A1", "left": 7}')
        job(reader, "http-request-reply")
        posted(stock, 2)


def test_the_job_nightly_timer(reader: Reader) -> None:
    with ExitStack() as stack:
        report = neighbour(reader, stack, "9005")
        job(reader, "nightly-timer")
        assert posted(report, 1)[0][0].startswith("/report/20")


def test_the_job_partner_keys_and_dedupe(reader: Reader) -> None:
    job(reader, "partner-keys-and-dedupe")
    assert len(list((reader.folder / "out").iterdir())) == 1


def test_the_job_two_systems_one_down(reader: Reader) -> None:
    with ExitStack() as stack:
        crm = Neighbour()
        reader.ports["9004"] = crm.port
        job(reader, "two-systems-one-down", {2: lambda: stack.enter_context(crm.there())})
        posted(crm, 1)


def test_the_job_xml_orders_by_content(reader: Reader) -> None:
    with ExitStack() as stack:
        shop, ledger = neighbour(reader, stack, "9001"), neighbour(reader, stack, "9002")
        job(reader, "xml-orders-by-content")
        posted(shop, 2)
        posted(ledger, 1)


def test_every_job_has_its_test() -> None:
    pages = {page.stem for page in (DOCS / "jobs").glob("*.md")} - {"README"}
    assert pages == {
        name.removeprefix("test_the_job_").replace("_", "-") for name in globals() if "test_the_job_" in name
    }


def test_the_expressions_page(reader: Reader) -> None:
    (reader.folder / "order.xml").write_text(SAMPLE)
    walk(DOCS / "expressions.md", reader, {})


def test_the_plugins_page(reader: Reader) -> None:
    reader.ports = {"8080": free_port()}
    first, *rest = blocks(DOCS / "plugins.md")
    reader.follow(first)
    reader.folder = reader.folder / "shop"
    for block in rest:
        reader.follow(block)


def test_the_admin_page(reader: Reader) -> None:
    for line in ("esb init shop", "cd shop", "esb run &"):
        assert reader.terminal.type(line).code == 0
    walk(DOCS / "admin.md", reader, {})


def test_the_page_of_backups(reader: Reader) -> None:
    reader.ports = {"8080": free_port()}

    def in_the_shop() -> None:
        reader.folder = reader.folder / "shop"

    walk(DOCS / "upgrade-and-backup.md", reader, {2: in_the_shop})


def test_every_page_with_commands_is_typed_by_a_test() -> None:
    """A page with a block of commands has its test above, or is typed elsewhere, or its lines are in the short list."""
    here = Path(__file__).read_text()
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        shown = any(block.kind in ("sh", "console", "bash") for block in blocks(page))
        if shown and page.parent not in (DOCS / "jobs", DOCS / "errors"):
            name = page.relative_to(ROOT).as_posix()
            assert name in ELSEWHERE or f'DOCS / "{page.name}"' in here, name


def test_what_is_not_run_still_stands_in_its_page() -> None:
    for page, line in NOT_RUN:
        assert [line for block in blocks(ROOT / page) for item in commands(block) if item.text.startswith(line)], line


def test_every_shell_block_of_the_readme_is_run_or_in_the_list() -> None:
    first, _, second, *rest = blocks(ROOT / "README.md")
    assert {("README.md", item.text.split(" #")[0].strip()) for item in commands(first)} == NOT_RUN.keys()
    assert second.kind == "sh"
    assert [block for block in rest if block.kind in ("sh", "console", "bash")] == []


def test_the_runner_sees_what_a_page_shows_wrongly() -> None:
    said = "route  accepted\norders 1\n2e112933-8d24-87b4-91be-3d88e64ce7fa.out  dead\n"
    assert shows(said, ("route accepted", "...", "ID dead"))
    assert not shows(said, ("orders 2",))
    assert not shows(said, ("ID delivered",))
    assert not shows(said, ("orders 1", "route accepted"))


def test_the_runner_sees_a_command_that_ends_otherwise_than_its_page_says(reader: Reader, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```console\n$ esb check --explain E999\n```\n")
    with pytest.raises(AssertionError, match="ended with 2"):
        walk(page, reader, {})
