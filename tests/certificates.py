"""Certificates of a test's own, made by the openssl command: an authority, and what it vouches for."""

from __future__ import annotations

import ssl
import subprocess
import time
from pathlib import Path

from msgspec import Struct


class Pair(Struct, frozen=True):
    """A certificate and its key, as files."""

    cert: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


class Authority:
    """Signs certificates; its own is `ca.pem` in `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.cert = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        made = ["-x509", "-days", "3650", "-subj", f"/CN=esb test {name}", "-out", str(self.cert)]
        _openssl("req", *_new_key(self._key), *made)

    def issue(self, name: str, host: str = "127.0.0.1", *, begin: float = -3600, end: float = 365 * 86_400) -> Pair:
        """A certificate for `host`, valid from `begin` to `end` in seconds from now."""
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, config = self.folder / f"{name}.csr", self.folder / f"{name}.cnf"
        kind = "IP" if host[0].isdigit() else "DNS"
        config.write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/{name}.db\nserial={self.folder}/{name}.serial\n"
            f"new_certs_dir={self.folder}\ndefault_md=sha256\npolicy=p\nx509_extensions=x\nunique_subject=no\n"
            f"[p]\ncommonName=supplied\n[x]\nsubjectAltName={kind}:{host}\nbasicConstraints=CA:FALSE\n"
        )
        (self.folder / f"{name}.db").write_text("")
        (self.folder / f"{name}.serial").write_text(f"{time.time_ns():020X}"[-16:] + "\n")
        _openssl("req", *_new_key(pair.key), "-subj", f"/CN={host}", "-out", str(request))
        dates = ["-startdate", _moment(begin), "-enddate", _moment(end)]
        signed = ["-cert", str(self.cert), "-keyfile", str(self._key), "-in", str(request), "-out", str(pair.cert)]
        _openssl("ca", "-batch", "-notext", "-config", str(config), *signed, *dates)
        return pair


def _new_key(path: Path) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]


def _moment(seconds: float) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, check=False, text=True)
    if done.returncode:
        raise AssertionError(f"openssl {' '.join(arguments)}: {done.stderr}")
