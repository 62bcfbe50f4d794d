"""What an HTTP answer means for a delivery: pure decisions."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from esb_plugins.http.connection import Answer

from esb import (
    Auth,
    Clock,
    Codec,
    DeliveryError,
    ExpressionError,
    MaybeSent,
    MessageError,
    Program,
    Receipt,
    Rejected,
    Reply,
    Throttled,
    Unauthorized,
    Unavailable,
)

Class = Literal["delivered", "transient", "throttled", "auth", "permanent", "unknown"]
EVIDENCE: Final = 4096
_HANDED_ON: Final[tuple[str, ...]] = (
    "location",
    "etag",
    "content-encoding",
    "content-language",
    "content-disposition",
    "last-modified",
)


def classify(status: int, auth_status: tuple[int, ...] = (401,)) -> Class:
    """The class of a status that nobody has said anything else about."""
    if 200 <= status < 300:
        return "delivered"
    if status in (429, 503):
        return "throttled"
    if status in auth_status or status == 401:
        return "auth"
    return "transient" if status >= 500 else "permanent"


def retry_after(text: str, now: float) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date; None when it says nothing one can use."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def failure(answer: Answer, named: Class, now: float) -> DeliveryError:
    """The error that stands for this class."""
    said, evidence = f"answered {answer.status}", answer.body[:EVIDENCE]
    match named:
        case "throttled":
            after = retry_after(answer.headers.get("retry-after", ""), now)
            return Throttled(said, after=after, evidence=evidence)
        case "auth":
            return Unauthorized(said, evidence=evidence)
        case "permanent" if 300 <= answer.status < 400:
            place = answer.headers.get("location", "nowhere")[:200]
            return Rejected(f"{said} and points to {place}; redirects are not followed", evidence=evidence, code="D441")
        case "permanent" | "delivered":
            return Rejected(said, evidence=evidence)
        case "unknown":
            return MaybeSent(said, evidence=evidence)
        case "transient":
            return Unavailable(said, evidence=evidence)


def receipt(answer: Answer) -> Receipt:
    """What is kept of a good answer. One that was cut off is not handed on as if it were whole."""
    if not answer.whole:
        return Receipt(note=f"{answer.status}, the answer was cut off")
    said = answer.body[:EVIDENCE].decode("utf-8", "replace")
    headers = {name: answer.headers[name] for name in _HANDED_ON if name in answer.headers}
    media = answer.headers.get("content-type", "application/octet-stream")
    reply = Reply(status=answer.status, body=answer.body, headers=headers, media_type=media)
    return Receipt(note=f"{answer.status} {said}".rstrip()[:1000], reply=reply)


class Judge:
    """Decides over answers by what the table says: `classes`, then `ok`, then `auth_status` and the status itself."""

    def __init__(
        self,
        classes: Mapping[str, Class],
        auth_status: tuple[int, ...],
        ok: Program | None,
        codecs: Mapping[str, Codec],
        clock: Clock,
    ) -> None:
        self._classes = classes
        self._auth_status = auth_status
        self._ok = ok
        self._codecs = codecs
        self._clock = clock

    def outcome(self, answer: Answer, auth: Auth | None) -> Receipt:
        """Returns when the answer means "delivered"; raises the class of any other outcome."""
        named = self._classes.get(str(answer.status)) if self._classes else None
        if named is None:
            named = classify(answer.status, self._auth_status)
            if self._ok is not None:
                named = self._by_expression(answer, self._ok, named)
        if named == "delivered":
            return receipt(answer)
        if named == "auth" and auth is not None:
            auth.refused()
        raise failure(answer, named, self._clock.now())

    def _by_expression(self, answer: Answer, ok: Program, named: Class) -> Class:
        """`ok` true is delivered; false leaves an error status what it is and makes a good one a rejection."""
        reads = "reply" in ok.text
        if reads and not answer.whole and named == "delivered":
            said = f"answered {answer.status}, but the answer broke off or is longer than max_reply"
            raise MaybeSent(said, evidence=answer.body[:EVIDENCE], code="D454")
        try:
            good = ok.evaluate({"status": answer.status, "reply": self._tree(answer) if reads else None}) is True
            why = "`ok` is false"
        except ExpressionError as error:
            good, why = False, f"`ok` cannot be decided: {error}"
        if good:
            return "delivered"
        if named == "delivered":
            raise Rejected(f"answered {answer.status}, but {why}", evidence=answer.body[:EVIDENCE], code="D443")
        return named

    def _tree(self, answer: Answer) -> Any:
        """The answer as `ok` sees it: a tree for JSON and XML that can be read, else text."""
        media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        for name, codec in self._codecs.items():
            if media.endswith((f"/{name}", f"+{name}")):
                try:
                    return codec.decode(answer.body).tree
                except MessageError:
                    break
        return answer.body.decode("utf-8", "replace")
