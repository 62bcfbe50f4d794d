"""Secrets are read when they are used and hidden wherever something is shown."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import SecretMissing
from esb.secrets import Mask, Secrets, mask


def test_a_secret_comes_from_the_environment_at_use(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = Secrets({"erp": "env:ESB_TEST_SECRET"}, Path())
    monkeypatch.setenv("ESB_TEST_SECRET", "one")
    assert secrets.read("secret:erp") == "one"
    monkeypatch.setenv("ESB_TEST_SECRET", "two")
    assert secrets.read("secret:erp") == "two"


def test_a_rotated_file_counts_at_once_and_its_last_line_end_is_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "erp"
    secrets = Secrets({"erp": "file:erp"}, tmp_path)
    file.write_text("first\n")
    assert secrets.read("secret:erp") == "first"
    new = tmp_path / "new"
    new.write_text("two\nlines\r\n")
    new.rename(file)
    assert secrets.read("secret:erp") == "two\nlines"


def test_a_credential_comes_from_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "erp").write_text("from systemd")
    secrets = Secrets({"erp": "credential:erp"}, Path())
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(SecretMissing, match="no credentials"):
        secrets.read("secret:erp")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert secrets.read("secret:erp") == "from systemd"


@pytest.mark.parametrize(
    ("reference", "place", "why"),
    [
        ("secret:other", "env:X", 'no secret named "other"'),
        ("secret:erp", "env:ESB_TEST_IS_NOT_SET", "the environment has no ESB_TEST_IS_NOT_SET"),
        ("secret:erp", "file:gone", "cannot be read: No such file"),
        ("secret:erp", "file:binary", "cannot be read: it is not UTF-8"),
        ("secret:erp", "plain", "is not env:VAR, file:PATH or credential:NAME"),
    ],
)
def test_a_secret_that_is_not_there_says_where_it_should_be(
    tmp_path: Path, reference: str, place: str, why: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SecretMissing, match=why) as caught:
        Secrets({"erp": place}, tmp_path).read(reference)
    assert caught.value.code == "E180"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"user": "a", "password": "x y"}', '{"user": "a", "password": "***"}'),
        ('{"card_number": 4111111111111111, "a": 1}', '{"card_number": "***", "a": 1}'),
        ('{"tokens": ["a", "b"], "a": 1}', '{"tokens": "***", "a": 1}'),
        ('{"password": "with \\" quote", "b": 2}', '{"password": "***", "b": 2}'),
        (
            "<Login><Password>x y</Password><User>a</User></Login>",
            "<Login><Password>***</Password><User>a</User></Login>",
        ),
        ('<s:iban kind="x">DE02</s:iban>', '<s:iban kind="x">***</s:iban>'),
        ('<Login user="a" password="x y"/>', '<Login user="a" password="***"/>'),
        ("user=a&password=x%20y&b=1", "user=a&password=***&b=1"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: ***"),
        ("X-API-Key: acme.12345678", "X-API-Key: ***"),
        ("sent Bearer abcdefgh12345678 there", "sent Bearer *** there"),
        ("POST https://user:pass@erp/x failed", "POST https://***@erp/x failed"),
        ("error: password=hunter2, sorry", "error: password=***, sorry"),
        ("note: the password: hunter2", "note: the password: ***"),
        ('{"o:password": "x", "Card No": "4111"}', '{"o:password": "***", "Card No": "***"}'),
        ("<x a='1' o:password='y z'>b</x>", "<x a='1' o:password='***'>b</x>"),
        ("{'token': 'abc'}", "{'token': '***'}"),
        ('{"card": {"number": "4111", "x": ["}"]}, "a": [1]}', '{"card": "***", "a": [1]}'),
        ("<Card><No>4111</No></Card><a>1</a>", "<Card>***</Card><a>1</a>"),
        ('cut off: {"password": "hunt', 'cut off: {"password": "***"'),
        ('cut off: {"tokens": ["a", "b', 'cut off: {"tokens": "***"'),
        ("cut off: <Password>hunt", "cut off: <Password>***"),
        ("<Password/><a>1</a>", "<Password/><a>1</a>"),
        ("nothing of the kind; a: 1", "nothing of the kind; a: 1"),
    ],
)
def test_values_of_secret_fields_are_hidden_in_every_form(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_what_the_table_hides_is_hidden_too() -> None:
    assert mask('{"Birthday": "1.1.", "name": "a"}', ["birthday"]) == '{"Birthday": "***", "name": "a"}'


def test_a_secret_that_was_read_is_hidden_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "erp").write_text("hunter2-and-more")
    (tmp_path / "pin").write_text("1")
    secrets = Secrets({"erp": "file:erp", "pin": "file:pin"}, tmp_path)
    hiding = Mask(secrets=secrets)
    assert "hunter2" in hiding.text("the peer says hunter2-and-more is wrong at 11:11")
    secrets.read("secret:erp")
    secrets.read("secret:pin")
    assert hiding.text("the peer says hunter2-and-more is wrong at 11:11") == "the peer says *** is wrong at 11:11"
    assert hiding.headers({"x-trace": "a hunter2-and-more b"}) == {"x-trace": "a *** b"}
    assert hiding.tree({"note": ["hunter2-and-more"]}) == {"note": ["***"]}


def test_login_headers_are_hidden_and_others_shown() -> None:
    given = {"Authorization": "Basic eDp5", "cookie": "a=b", "X-Api-Key": "k", "X-Auth-Token": "t", "Accept": "*/*"}
    hidden = {"Authorization": "***", "cookie": "***", "X-Api-Key": "***", "X-Auth-Token": "***", "Accept": "*/*"}
    assert Mask().headers(given) == hidden


def test_a_url_shows_no_login_and_no_secret_field() -> None:
    hiding = Mask(["pin"])
    assert hiding.url("https://u:p@erp:8443/x?a=1&access_token=abc&pin=7#f") == (
        "https://***@erp:8443/x?a=1&access_token=***&pin=***#f"
    )
    assert hiding.url("https://erp/x?a=%20b") == "https://erp/x?a=%20b"


def test_a_tree_keeps_its_shape() -> None:
    tree = {"Order": {"@id": 1, "Card": {"n": 4}, "Lines": [{"iban": "x", "q": None}]}}
    assert Mask().tree(tree) == {"Order": {"@id": 1, "Card": "***", "Lines": [{"iban": "***", "q": None}]}}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=6, max_size=40))
def test_no_json_string_under_a_secret_name_survives(value: str) -> None:
    shown = mask(json.dumps({"id": "order-4711", "password": value, "end": True}))
    assert json.loads(shown) == {"id": "order-4711", "password": "***", "end": True}


@pytest.mark.parametrize(
    "text", ["a" * 300_000, '"a":[' * 60_000, '"a":"' * 60_000, "<a>" * 100_000, "a=" * 150_000, '"card":[' * 9000]
)
def test_no_text_makes_masking_slow(text: str) -> None:
    begun = time.process_time()
    mask(text)
    assert time.process_time() - begun < 3
