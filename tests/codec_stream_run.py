"""Run as a process: splits a large generated file and prints what it cost, as JSON: KIND MEGABYTES [CHUNK]."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from codecs_of_tests import csv_codec, json_codec, xml_codec

from esb import Part

PARTS = 10_000


def xml_file(size: int) -> Iterator[bytes]:
    text = b"some words &amp; more " * 10
    item = b"<Item><Sku>A-4711</Sku><Qty>3</Qty><Price cur='EUR'>10.50</Price><Text>%b</Text></Item>\n" % text
    yield b'<?xml version="1.0"?>\n<o:Order xmlns:o="urn:o" id="7"><Head>h</Head><Lines>\n'
    for number in range(PARTS):
        yield b'<Line nr="%d">%b</Line>\n' % (number, item * (size // PARTS // len(item)))
    yield b"</Lines></o:Order>"


def json_file(size: int) -> Iterator[bytes]:
    text = b'some words \\" more [{ ' * 5
    item = b'{"sku": "A-4711", "qty": 3, "price": 10.50, "text": "%b"}' % text
    yield b'{"head": {"id": 7}, "data": {"lines": [\n'
    for number in range(PARTS):
        items = b", ".join([item] * (size // PARTS // len(item)))
        yield b'{"nr": %d, "items": [%b]}%b\n' % (number, items, b"," if number < PARTS - 1 else b"")
    yield b'], "end": true}}'


def csv_file(size: int) -> Iterator[bytes]:
    columns = 100
    yield b",".join(b"c%d" % number for number in range(columns)) + b"\r\n"
    cell = b'"some ""words"", more\r\nand more"'
    for number in range(PARTS):
        width = size // PARTS // columns
        yield b",".join([b"%d" % number, cell, *[b"x" * width] * (columns - 2)]) + b"\r\n"


KINDS = {
    "xml": (xml_file, xml_codec(arrays=["Order.Lines.Line.Item"]), "Order.Lines.Line"),
    "json": (json_file, json_codec(), "data.lines"),
    "csv": (csv_file, csv_codec(), "rows"),
}


def memory() -> int:
    """Kilobytes that this process holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def rechunked(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    yield bytes(held)


def main(kind: str, megabytes: int, chunk: int) -> None:
    make, codec, path = KINDS[kind]
    before, most, count, seen = memory(), 0, 0, 0
    digest = hashlib.sha256()
    started = time.perf_counter()

    def counted() -> Iterator[bytes]:
        nonlocal seen
        for piece in rechunked(make(megabytes * 1_000_000), chunk):
            seen += len(piece)
            yield piece

    for part in codec.parts(counted(), path):
        assert isinstance(part, Part), part
        digest.update(part.raw)
        count += 1
        if count % 500 == 0:
            most = max(most, memory() - before)
    said = {"parts": count, "bytes": seen, "kilobytes": most, "seconds": time.perf_counter() - started}
    print(json.dumps({**said, "digest": digest.hexdigest()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 262_144)
