"""`esb init`."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from esb.cli.asking import Failed, json_option, paths, show
from esb.table import starter


@click.command(epilog="Example: esb init shop")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Write a small working project: a table with a free port and a test, a sample message, a folder for adapters."""
    if folder.exists() and any(folder.iterdir()):
        raise Failed(f"{folder} is not empty", 2)
    show({"files": list(starter.write(folder, _free_port()))}, as_json, paths)
    click.echo(f"next: cd {folder}; esb check; esb test; esb run &", err=True)


def _free_port() -> int:
    """A port that nobody listens on now."""
    for port in range(8080, 8180):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return 8080
