"""A listener's certificate: read again when its files change, and watched for its end."""

from __future__ import annotations

import calendar
import logging
import ssl
import time
from pathlib import Path
from typing import Final

from esb import Clock

log = logging.getLogger(__name__)

WARN: Final = 30 * 86_400.0
"""Seconds before its end from which a certificate is called expiring."""

_LOOK: Final = 1.0


class ServerTls:
    """Makes contexts from files. A handshake after the files changed uses the new ones; while those cannot be read,
    the old ones go on."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None, clock: Clock) -> None:
        self._files = [cert, key] if client_ca is None else [cert, key, client_ca]
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._clock = clock
        self._looked = clock.now()
        self._seen = self._times()
        self.trouble = ""
        self._current = self._load()

    def context(self) -> ssl.SSLContext:
        return self._current

    def _load(self) -> ssl.SSLContext:
        """Raises OSError (SSLError is one) when the files are missing or do not fit."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._cert, self._key)
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        self.expires = not_after(self._cert.read_text("latin-1"))
        context.sni_callback = self._at_handshake
        return context

    def _times(self) -> list[int]:
        return [path.stat().st_mtime_ns for path in self._files]

    def _at_handshake(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.refresh()
        if connection.context is not self._current:
            connection.context = self._current

    def refresh(self) -> None:
        """Reads changed files again; looks once a second at most."""
        now = self._clock.now()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        try:
            times = self._times()
            if times != self._seen:
                self._current, self._seen, self.trouble = self._load(), times, ""
                log.info("the certificate %s was read again", self._cert)
        except OSError as error:
            self.trouble = f"the changed certificate cannot be used, the old one goes on: {error}"
            log.warning("%s", self.trouble)

    def warning(self) -> str:
        """What is wrong with the certificate now or soon; "" when nothing is."""
        self.refresh()
        left = self.expires - self._clock.now()
        if left > WARN:
            return self.trouble
        day = time.strftime("%Y-%m-%d", time.gmtime(self.expires))
        return f"the certificate {'expired' if left <= 0 else 'expires'} on {day}"


def not_after(pem: str) -> float:
    """When the first certificate of a PEM text ends, in seconds since the epoch. Raises OSError when it is none."""
    begin = pem.find("-----BEGIN CERTIFICATE-----")
    end = pem.find("-----END CERTIFICATE-----", begin)
    if begin < 0 or end < 0:
        raise OSError("there is no certificate in the file")
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[begin : end + 25])
        tbs = _open(_open(der, 0), 0)
        first = 1 if tbs[0] == 0xA0 else 0  # the version is optional
        validity = _open(_skip(tbs, first + 3), 0)
        moment = _open(_skip(validity, 1), 0).decode("ascii")
        form = "%y%m%d%H%M%SZ" if len(moment) == 13 else "%Y%m%d%H%M%SZ"
        return float(calendar.timegm(time.strptime(moment, form)))
    except (ValueError, IndexError) as error:
        raise OSError("the certificate cannot be read") from error


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the DER element at `at` begins and ends."""
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + size], "big"), begin + size
    return begin, begin + length


def _open(der: bytes, at: int) -> bytes:
    begin, end = _element(der, at)
    return der[begin:end]


def _skip(der: bytes, count: int) -> bytes:
    at = 0
    for _ in range(count):
        at = _element(der, at)[1]
    return der[at:]
