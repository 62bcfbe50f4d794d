"""Logins: what we send elsewhere, and which keys let others in."""

from __future__ import annotations

import asyncio
import hashlib
import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from esb.auth import new_key, open_auth, read_keys
from esb.clock import VirtualClock
from esb.errors import Busy, ConfigError, MaybeSent, SecretMissing, Unauthorized, Unavailable
from esb.ports import Auth
from esb.table.model import AuthSpec


class Vault:
    """Secrets of a test; what is not in it is missing."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def secret(self, reference: str, /) -> str:
        name = reference.removeprefix("secret:")
        if name not in self.values:
            raise SecretMissing(f'no secret named "{name}"')
        return self.values[name]


class Endpoint:
    """A token endpoint that remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Mapping[str, str], Mapping[str, str]]] = []

    async def __call__(self, url: str, form: Mapping[str, str], headers: Mapping[str, str], /) -> tuple[int, bytes]:
        self.asked.append((url, form, headers))
        await asyncio.sleep(0)
        said = self.answers.pop(0) if self.answers else token(f"t{len(self.asked)}")
        if isinstance(said, Exception):
            raise said
        status, body = said
        return status, body


def token(text: str, **more: Any) -> tuple[int, bytes]:
    return 200, json.dumps({"access_token": text, "token_type": "Bearer", "expires_in": 3600, **more}).encode()


def spec(kind: Any, value: str = "", **fields: Any) -> AuthSpec:
    return AuthSpec(name="erp", place=("auth", "erp"), kind=kind, value=value, **fields)


VAULT = Vault(id="client", key="s3cr/t", word="pass:word")


async def test_bearer_basic_and_header_read_their_secrets_at_use() -> None:
    vault = Vault(key="one")
    bearer = open_auth(spec("bearer", "secret:key"), vault)
    assert await bearer.headers() == {"Authorization": "Bearer one"}
    vault.values["key"] = "two"
    assert await bearer.headers() == {"Authorization": "Bearer two"}
    basic = open_auth(spec("basic", user="us", password="secret:word"), VAULT)
    said = (await basic.headers())["Authorization"]
    assert b64decode(said.removeprefix("Basic ")) == b"us:pass:word"
    header = open_auth(spec("header", "X-Api-Key", secret="secret:key"), VAULT)
    assert await header.headers() == {"X-Api-Key": "s3cr/t"}


async def test_a_missing_secret_is_a_login_problem_that_pauses_the_target() -> None:
    with pytest.raises(Unauthorized, match="no secret named") as caught:
        await open_auth(spec("bearer", "secret:nowhere"), VAULT).headers()
    assert caught.value.code == "D432"


OAUTH = {"value": "https://login/token", "id": "secret:id", "secret": "secret:key", "scope": "orders.write"}


async def test_a_token_is_fetched_with_client_credentials_and_kept_until_shortly_before_its_end() -> None:
    clock, endpoint = VirtualClock(), Endpoint()
    auth = open_auth(spec("oauth2", **OAUTH), VAULT, endpoint, clock=clock)
    assert await auth.headers() == {"Authorization": "Bearer t1"}
    [(url, form, headers)] = endpoint.asked
    assert (url, form) == ("https://login/token", {"grant_type": "client_credentials", "scope": "orders.write"})
    assert b64decode(headers["Authorization"].removeprefix("Basic ")) == b"client:s3cr%2Ft"
    clock.advance(3600 - 61)
    assert await auth.headers() == {"Authorization": "Bearer t1"}
    clock.advance(2)
    assert await auth.headers() == {"Authorization": "Bearer t2"}


async def test_one_token_is_fetched_whoever_waits_for_it() -> None:
    endpoint = Endpoint()
    auth = open_auth(spec("oauth2", **OAUTH), VAULT, endpoint, clock=VirtualClock())
    found = await asyncio.gather(*(auth.headers() for _ in range(20)))
    assert {headers["Authorization"] for headers in found} == {"Bearer t1"}
    assert len(endpoint.asked) == 1


async def test_a_refused_token_is_forgotten() -> None:
    endpoint = Endpoint()
    auth = open_auth(spec("oauth2", **OAUTH), VAULT, endpoint, clock=VirtualClock())
    await auth.headers()
    auth.refused()
    assert await auth.headers() == {"Authorization": "Bearer t2"}


async def test_a_short_life_has_a_short_margin_and_a_life_as_text_counts() -> None:
    clock, endpoint = VirtualClock(), Endpoint(token("a", expires_in="20"))
    auth = open_auth(spec("oauth2", **OAUTH), VAULT, endpoint, clock=clock)
    await auth.headers()
    clock.advance(17)
    assert await auth.headers() == {"Authorization": "Bearer a"}
    clock.advance(2)
    assert await auth.headers() == {"Authorization": "Bearer t2"}


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        ((400, b'{"error": "invalid_client"}'), Unauthorized, "D431"),
        ((401, b""), Unauthorized, "D431"),
        ((500, b""), Unavailable, "D433"),
        ((429, b""), Unavailable, "D433"),
        ((200, b"<html>"), Unavailable, "D433"),
        ((200, b'{"access_token": ""}'), Unavailable, "D433"),
        ((200, b'{"access_token": "a\\r\\nX: 1"}'), Unavailable, "D433"),
        ((200, b'{"access_token": "a", "expires_in": "soon"}'), Unavailable, "D433"),
        (Unavailable("refused"), Unavailable, "D433"),
        (MaybeSent("no answer"), Unavailable, "D433"),
    ],
)
async def test_what_goes_wrong_at_the_token_endpoint_sent_nothing_to_the_target(
    said: Any, kind: type[Exception], code: str
) -> None:
    auth = open_auth(spec("oauth2", **OAUTH), VAULT, Endpoint(said), clock=VirtualClock())
    with pytest.raises(kind) as caught:
        await auth.headers()
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert await auth.headers() == {"Authorization": "Bearer t2"}


async def test_the_way_to_the_endpoint_may_come_later() -> None:
    auth = open_auth(spec("oauth2", **OAUTH), VAULT)
    with pytest.raises(Unavailable, match="no adapter"):
        await auth.headers()
    auth.use(Endpoint())
    assert await auth.headers() == {"Authorization": "Bearer t1"}


# --- keys ---------------------------------------------------------------------------------------------------------


class Keys:
    """A key file and the door that reads it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "partners.keys"
        self.clock = VirtualClock()
        self.auth: Auth = open_auth(spec("api-key", "file:partners.keys"), VAULT, folder=folder, clock=self.clock)

    def write(self, *lines: str) -> None:
        """The way an editor does: a new file in place of the old one."""
        new = self.file.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.rename(self.file)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def test_a_key_is_known_as_bearer_and_as_its_own_header(keys: Keys) -> None:
    key, line = new_key("ACME Ltd")
    keys.write("# partners", "", line)
    identity = key.partition(".")[0]
    assert keys.auth.caller({"authorization": f"Bearer {key}"}) == identity
    assert keys.auth.caller({"authorization": f"bearer {key} "}) == identity
    assert keys.auth.caller({"x-api-key": key}) == identity


def test_a_key_file_holds_no_secret() -> None:
    key, line = new_key("acme", "2031-01-31")
    identity, _, secret = key.partition(".")
    assert identity.startswith("acme-")
    assert len(secret) >= 43
    assert secret not in line
    assert line == f"{identity}, {hashlib.sha256(secret.encode()).hexdigest()}, acme, 2031-01-31"
    assert new_key("acme")[0] != key


@pytest.mark.parametrize("name", ["a,b", "a\nb"])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        new_key(name)


def test_wrong_missing_and_odd_keys_are_refused(keys: Keys) -> None:
    key, line = new_key("acme")
    keys.write(line)
    identity, _, secret = key.partition(".")
    odd = ["", "Basic abc", f"Bearer {identity}", f"Bearer {identity}.{'x' * 43}", f"Bearer other.{secret}"]
    for sent in [*odd, f"Bearer {key}\u00fc", f"Bearer {key[:-1]}"]:
        with pytest.raises(Unauthorized):
            keys.auth.caller({"authorization": sent})
    with pytest.raises(Unauthorized, match="no key was sent"):
        keys.auth.caller({})


def test_the_file_is_read_again_when_it_changes(keys: Keys) -> None:
    first, first_line = new_key("first")
    second, second_line = new_key("second")
    keys.write(first_line)
    assert keys.auth.caller({"x-api-key": first})
    keys.write(second_line)
    assert keys.auth.caller({"x-api-key": second})
    with pytest.raises(Unauthorized):
        keys.auth.caller({"x-api-key": first})


def test_an_expired_key_is_refused(keys: Keys) -> None:
    key, line = new_key("acme", "2025-06-30T12:00:00+00:00")
    keys.write(line)
    assert keys.auth.caller({"x-api-key": key})
    keys.clock.advance(30 * 86_400)
    with pytest.raises(Unauthorized, match="expired"):
        keys.auth.caller({"x-api-key": key})


def test_a_date_counts_to_its_end() -> None:
    [key] = read_keys(f"a, {'0' * 64}, acme, 2025-06-30")
    assert key.expires == 1_751_328_000.0


def test_while_the_file_cannot_be_read_nobody_is_let_in_and_nobody_is_called_wrong(keys: Keys) -> None:
    with pytest.raises(Busy):
        keys.auth.caller({"x-api-key": new_key("acme")[0]})
    key, line = new_key("acme")
    keys.write(line)
    assert keys.auth.caller({"x-api-key": key})


def test_a_line_that_is_no_key_lets_nobody_in_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    _, good = new_key("good")
    text = f"nonsense\na, nothash, x\nb, {'0' * 64}, x, someday\n{good}\n"
    assert [key.name for key in read_keys(text, "partners.keys")] == ["good"]
    assert [record.getMessage().split(" ")[0] for record in caplog.records] == [
        f"partners.keys:{number}" for number in (1, 2, 3)
    ]


async def test_a_login_elsewhere_is_no_key_and_a_key_is_no_login_elsewhere(keys: Keys) -> None:
    with pytest.raises(Unauthorized):
        open_auth(spec("bearer", "secret:key"), VAULT).caller({})
    with pytest.raises(Unauthorized):
        await keys.auth.headers()
