"""Signatures of webhooks: Standard Webhooks, GitHub, Stripe, and a plain HMAC-SHA256 in a header. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from esb_plugins.http.options import Verify
from esb_plugins.http.problems import Refused

_TIME: Final = re.compile(r"[0-9]{1,11}")


def verify(rule: Verify, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float) -> str | None:
    """The sender's own id of this message where the signature vouches for one. Raises Refused("A318")."""
    name = rule.header.lower()
    given = headers.get(name, "")
    if not given:
        raise Refused("A318", f"the header {rule.header} is missing")
    match rule.form:
        case "standard":
            return _standard(name.removesuffix("signature"), secrets, headers, body, now, rule.tolerance)
        case "stripe":
            return _stripe(secrets, given, body, now, rule.tolerance)
        case "github":
            _one_of((_hex(secret.encode(), body) for secret in secrets), [given.strip().removeprefix("sha256=")])
            return headers.get("x-github-delivery") or None
        case "plain":
            said = given.strip().removeprefix("sha256=")
            made = [hmac.digest(secret.encode(), body, hashlib.sha256) for secret in secrets]
            _one_of((form for mac in made for form in (mac.hex(), b64encode(mac).decode())), [said, said.lower()])
            return None


def _standard(
    prefix: str, secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float, tolerance: float
) -> str:
    """`id.timestamp.body` signed with a base64 secret; several signatures stand side by side, `v1,` before each."""
    identity, moment = headers.get(f"{prefix}id", ""), headers.get(f"{prefix}timestamp", "")
    if not identity:
        raise Refused("A318", f"the header {prefix}id is missing")
    _in_time(moment, now, tolerance)
    signed = f"{identity}.{moment}.".encode() + body
    given = [part[3:] for part in headers[f"{prefix}signature"].split(" ") if part.startswith("v1,")]
    made = (hmac.digest(_whsec(secret), signed, hashlib.sha256) for secret in secrets)
    _one_of((b64encode(mac).decode() for mac in made), given)
    return identity


def _whsec(secret: str) -> bytes:
    try:
        return b64decode(secret.removeprefix("whsec_"), validate=True)
    except NotBase64:
        return secret.encode()


def _stripe(secrets: Sequence[str], given: str, body: bytes, now: float, tolerance: float) -> str:
    """`t=...,v1=...`: the time and body are signed. The signature itself names the message: a replay is a duplicate."""
    parts = [part.strip().partition("=") for part in given.split(",")]
    moment = next((value for name, _, value in parts if name == "t"), "")
    signatures = [value for name, _, value in parts if name == "v1"]
    _in_time(moment, now, tolerance)
    signed = f"{moment}.".encode() + body
    return _one_of((_hex(secret.encode(), signed) for secret in secrets), signatures)


def _hex(secret: bytes, signed: bytes) -> str:
    return hmac.digest(secret, signed, hashlib.sha256).hex()


def _in_time(moment: str, now: float, tolerance: float) -> None:
    if not _TIME.fullmatch(moment):
        raise Refused("A318", "the signed time is missing or is no number")
    if abs(now - int(moment)) > tolerance:
        raise Refused("A318", "the signed time is too old" if int(moment) < now else "the signed time is in the future")


def _one_of(made: Iterable[str], given: Sequence[str]) -> str:
    """The signature that is right; compares all of them, each in constant time."""
    right = ""
    for mac in made:
        for said in given:
            if hmac.compare_digest(mac.encode(), said.encode("utf-8", "replace")):
                right = mac
    if not right:
        raise Refused("A318", "the signature does not belong to this body")
    return right
