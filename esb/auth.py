"""Logins of `[auth.NAME]`: the headers that log us in elsewhere, and the keys that let others in here."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets as randomness
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import msgspec
from msgspec import Struct

from esb.clock import Clock, SystemClock
from esb.errors import Busy, ConfigError, DeliveryError, Problem, SecretMissing, Unauthorized, Unavailable
from esb.ports import Auth, Post
from esb.table.model import AuthSpec

log = logging.getLogger(__name__)

MARGIN: Final = 60.0
"""Seconds before its end from which a token is not used any more; a tenth of its life when that is less."""

_KEY: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{16,256})")
_NOBODY: Final = hashlib.sha256(b"nobody has this key").hexdigest()


class SecretReader(Protocol):
    """Reads `secret:NAME` at use (esb.secrets.Secrets behind a Context)."""

    def secret(self, reference: str, /) -> str: ...


class _Login:
    """What all logins share: the half of `Auth` that they do not have."""

    def __init__(self, spec: AuthSpec) -> None:
        self._name = spec.name

    def use(self, post: Post, /) -> None:
        """Nothing to fetch."""

    async def headers(self) -> Mapping[str, str]:
        raise Unauthorized(f"[auth.{self._name}] lets others in; it is no login", code="D432")

    def refused(self) -> None:
        """Nothing is cached."""

    def caller(self, headers: Mapping[str, str], /) -> str:
        raise Unauthorized(f"[auth.{self._name}] lets nobody in; it is a login elsewhere", code="D432")


class _Outbound(_Login):
    def __init__(self, spec: AuthSpec, secrets: SecretReader) -> None:
        super().__init__(spec)
        self._secrets = secrets

    def _read(self, value: str | None, key: str) -> str:
        """A value of the table, through its reference where it is one. A missing secret pauses the target."""
        if value is None:
            raise Unauthorized(f"[auth.{self._name}] has no {key}", code="D432")
        if not value.startswith("secret:"):
            return value
        try:
            return self._secrets.secret(value)
        except SecretMissing as error:
            raise Unauthorized(str(error), code="D432") from error


class StaticLogin(_Outbound):
    """bearer, basic and header: headers made of secrets, anew at each use."""

    def __init__(self, spec: AuthSpec, secrets: SecretReader) -> None:
        super().__init__(spec, secrets)
        self._spec = spec

    async def headers(self) -> Mapping[str, str]:
        spec = self._spec
        if spec.kind == "bearer":
            return {"Authorization": f"Bearer {self._read(spec.value, 'bearer')}"}
        if spec.kind == "header":
            return {spec.value: self._read(spec.secret, "secret")}
        login = f"{self._read(spec.user or spec.value or None, 'user')}:{self._read(spec.password, 'password')}"
        return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}


class _Token(Struct):
    """A token endpoint's answer (RFC 6749)."""

    access_token: str
    token_type: str = "Bearer"
    expires_in: float | str | None = None


class OAuth2(_Outbound):
    """Client credentials. A token is kept until shortly before its end, or until a peer refuses it; one is fetched at
    a time, whoever waits for it."""

    def __init__(self, spec: AuthSpec, secrets: SecretReader, post: Post | None, clock: Clock) -> None:
        super().__init__(spec, secrets)
        self._spec = spec
        self._post = post
        self._clock = clock
        self._token: tuple[str, float] | None = None
        self._fetching = asyncio.Lock()

    def use(self, post: Post, /) -> None:
        if self._post is None:
            self._post = post

    def refused(self) -> None:
        self._token = None

    async def headers(self) -> Mapping[str, str]:
        token = self._valid()
        if token is None:
            async with self._fetching:
                token = self._valid() or await self._fetch()
        return {"Authorization": f"Bearer {token}"}

    def _valid(self) -> str | None:
        if self._token is not None and self._clock.now() < self._token[1]:
            return self._token[0]
        return None

    async def _fetch(self) -> str:
        if self._post is None:
            raise Unavailable(f"[auth.{self._name}]: no adapter that speaks HTTP is open", code="D433")
        asked = self._clock.now()
        identity, secret = self._read(self._spec.id, "id"), self._read(self._spec.secret, "secret")
        login = b64encode(f"{quote(identity, safe='')}:{quote(secret, safe='')}".encode()).decode()
        form = {"grant_type": "client_credentials"}
        if self._spec.scope:
            form["scope"] = self._spec.scope
        status, body = await self._ask(self._post, form, {"Authorization": f"Basic {login}"})
        if status != 200:
            self._say_no(status, body)
        try:
            token = msgspec.json.decode(body, type=_Token)
            lives = float(token.expires_in or 300.0)
        except (msgspec.DecodeError, ValueError) as error:
            raise Unavailable("the token endpoint's answer holds no token", code="D433") from error
        if not token.access_token or not token.access_token.isascii() or not token.access_token.isprintable():
            raise Unavailable("the token endpoint's answer holds no usable token", code="D433")
        self._token = (token.access_token, asked + lives - min(MARGIN, lives / 10))
        return token.access_token

    async def _ask(self, post: Post, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Whatever goes wrong at the token endpoint, nothing was sent to the target."""
        try:
            return await post(self._spec.value, form, headers)
        except DeliveryError as error:
            raise Unavailable(f"the token endpoint: {error}", code="D433") from error

    def _say_no(self, status: int, body: bytes) -> None:
        said = f"the token endpoint answered {status}"
        if status == 429 or status >= 500:
            raise Unavailable(said, evidence=body[:4096], code="D433")
        raise Unauthorized(said, evidence=body[:4096], code="D431")


# --- inbound ----------------------------------------------------------------------------------------------------------


class ApiKey(Struct, frozen=True):
    """One line of a key file: `id, sha256, name, expiry`. `expires` is in seconds since the epoch."""

    id: str
    sha256: str
    name: str
    expires: float | None


class ApiKeys(_Login):
    """A file of keys, read again when it changes. A key is sent as `Authorization: Bearer ID.SECRET` or
    `X-API-Key: ID.SECRET`; only its SHA-256 is kept here."""

    def __init__(self, spec: AuthSpec, path: Path, clock: Clock) -> None:
        super().__init__(spec)
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def caller(self, headers: Mapping[str, str], /) -> str:
        """The key's id. Raises Unauthorized, and Busy while the file cannot be read: nobody is let in unchecked."""
        found = _KEY.fullmatch(_sent_key(headers))
        self._refresh()
        key = None if found is None else self._keys.get(found[1])
        given = hashlib.sha256(found[2].encode() if found else b"").hexdigest()
        right = hmac.compare_digest(given, _NOBODY if key is None else key.sha256)
        if key is None or not right:
            raise Unauthorized("this key is not known" if found else "no key was sent")
        if key.expires is not None and key.expires <= self._clock.now():
            raise Unauthorized(f"the key {key.id} has expired")
        return key.id

    def _refresh(self) -> None:
        try:
            state = self._path.stat()
            seen = (state.st_mtime_ns, state.st_size, state.st_ino)
            if seen != self._seen:
                self._keys = {key.id: key for key in read_keys(self._path.read_text("utf-8"), str(self._path))}
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            self._seen, self._keys = None, {}
            log.error("the key file %s cannot be read: %s", self._path, error)
            raise Busy("keys cannot be checked now") from error


def _sent_key(headers: Mapping[str, str]) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return headers.get("x-api-key", "").strip()


def read_keys(text: str, file: str = "") -> list[ApiKey]:
    """The keys of a file's text. A line that is none lets nobody in and is logged with its number."""
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            keys.append(_read_key(line))
        except ValueError as error:
            log.error("%s:%d is no key line and is left out: %s", file, number, error)
    return keys


def _read_key(line: str) -> ApiKey:
    parts = [part.strip() for part in line.split(",")]
    if not 3 <= len(parts) <= 4:
        raise ValueError("a key line is `id, sha256, name, expiry`")
    if not re.fullmatch(r"[0-9a-f]{64}", parts[1].lower()):
        raise ValueError("the second field is no SHA-256")
    ends = parts[3] if len(parts) == 4 else ""
    return ApiKey(parts[0], parts[1].lower(), parts[2], moment(ends) if ends not in ("", "never") else None)


def moment(text: str) -> float:
    """A date, or a date and time; without an offset it is UTC. A date counts to its end. Raises ValueError."""
    found = datetime.fromisoformat(text)
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return found.timestamp() + (86_400 if len(text) == 10 else 0)


def new_key(name: str, expires: str = "") -> tuple[str, str]:
    """A new key: the text for its owner, shown once, and the line for the key file. 256 bits of chance.
    Raises ConfigError for a name that the file cannot hold, ValueError for an end that is no date."""
    if "," in name or "\n" in name:
        raise ConfigError(Problem("E181", "a key's name holds no comma and no line break"))
    if expires:
        moment(expires)
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:24] or "key"
    identity = f"{stem}-{randomness.token_hex(4)}"
    secret = randomness.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return f"{identity}.{secret}", f"{identity}, {digest}, {name}, {expires}".rstrip(", ")


def open_auth(
    spec: AuthSpec,
    secrets: SecretReader,
    post: Post | None = None,
    *,
    folder: Path = Path(),
    clock: Clock | None = None,
) -> Auth:
    """The login that `[auth.NAME]` describes. `post` reaches a token endpoint (an adapter may bring it later by `use`);
    `folder` is what a key file's relative path counts from."""
    ours = SystemClock() if clock is None else clock
    match spec.kind:
        case "oauth2":
            return OAuth2(spec, secrets, post, ours)
        case "api-key":
            return ApiKeys(spec, folder / spec.value.removeprefix("file:"), ours)
        case "bearer" | "basic" | "header":
            return StaticLogin(spec, secrets)
