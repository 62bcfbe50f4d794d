"""Codecs for tests, made from options as a table gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from esb_plugins import csv, json, xml

from esb.units import decode_option


def json_codec(**options: Any) -> json.JsonCodec:
    return json.JsonCodec(msgspec.convert(options, json.Options, dec_hook=decode_option))


def csv_codec(**options: Any) -> csv.CsvCodec:
    return csv.CsvCodec(msgspec.convert(options, csv.Options, dec_hook=decode_option), None, {})


def xml_codec(known: Mapping[str, str] | None = None, **options: Any) -> xml.XmlCodec:
    """`known` are the table's `[namespaces]`."""
    return xml.XmlCodec(msgspec.convert(options, xml.Options, dec_hook=decode_option), known or {})


def cut(body: bytes, size: int) -> list[bytes]:
    """A body as a stream of small chunks."""
    return [body[at : at + size] for at in range(0, len(body), size)]
