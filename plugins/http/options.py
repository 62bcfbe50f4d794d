"""The options of the http source: light, so that a table is checked without a server being loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from esb import Duration, Encoding, Secret, Size

Form = Literal["standard", "github", "stripe", "plain"]
_BY_HEADER: Final[Mapping[str, Form]] = {
    "webhook-signature": "standard",
    "svix-signature": "standard",
    "x-hub-signature-256": "github",
    "stripe-signature": "stripe",
}


class Verify(Struct, frozen=True, forbid_unknown_fields=True):
    """`hmac` is the shared secret; `previous` the one before it, still good while it is rotated. `header` names where
    the signature is and with it the form; `tolerance` is how old or early a signed time may be."""

    hmac: Secret
    previous: Secret | None = None
    header: str = "webhook-signature"
    tolerance: Duration = Duration(300)

    @property
    def form(self) -> Form:
        return _BY_HEADER.get(self.header.lower(), "plain")


class HttpSource(Struct, frozen=True, forbid_unknown_fields=True):
    """`http` is methods and path; `{name}` in the path is `source.path.name`. `verify` demands a webhook signature;
    `charset` refuses a body that says another one; `max_body` is this route's own limit, unpacked."""

    http: str
    listener: str = "default"
    verify: Verify | None = None
    max_body: Size | None = None
    charset: Encoding | None = None
