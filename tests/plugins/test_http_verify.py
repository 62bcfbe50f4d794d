"""Webhook signatures (FAULTS 72): the published vectors, and everything that is wrong with one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from base64 import b64encode
from typing import Any

import aiohttp
import pytest
from esb_plugins.http.options import Verify
from esb_plugins.http.problems import Refused
from esb_plugins.http.source import SOURCE
from esb_plugins.http.verify import verify
from plugin_context import FakeAccept, FakeServices, eventually, make_context, make_listener, options_of, running

from esb import Duration, OptionError, Secret

STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_614_265_330
BODY = b'{"test": 2432232314}'
GOOD = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(NOW),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def rule(**fields: Any) -> Verify:
    return Verify(hmac=Secret("secret:hook"), **fields)


def check(headers: dict[str, str], *secrets: str, body: bytes = BODY, now: float = NOW, **fields: Any) -> str | None:
    return verify(rule(**fields), secrets or (STANDARD,), headers, body, now)


def refused(headers: dict[str, str], *secrets: str, **given: Any) -> str:
    with pytest.raises(Refused) as caught:
        check(headers, *secrets, **given)
    assert caught.value.code == "A318"
    return str(caught.value)


def test_the_vector_of_standard_webhooks_is_taken_and_its_id_names_the_message() -> None:
    assert check(GOOD) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_the_same_form_under_its_older_name() -> None:
    older = {name.replace("webhook", "svix"): value for name, value in GOOD.items()}
    assert check(older, header="svix-signature") == GOOD["webhook-id"]


def test_one_right_signature_among_several_is_enough() -> None:
    several = f"v1,{b64encode(b'x' * 32).decode()} v2,abc {GOOD['webhook-signature']} v1a,zzz"
    assert check({**GOOD, "webhook-signature": several}) == GOOD["webhook-id"]


def test_the_previous_secret_still_counts_while_it_is_rotated() -> None:
    assert check(GOOD, "whsec_" + b64encode(b"new").decode(), STANDARD) == GOOD["webhook-id"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"webhook-signature": ""}, "missing"),
        ({"webhook-id": ""}, "missing"),
        ({"webhook-timestamp": ""}, "no number"),
        ({"webhook-timestamp": "soon"}, "no number"),
        ({"webhook-timestamp": "1e9"}, "no number"),
        ({"webhook-id": "another"}, "does not belong"),
        ({"webhook-timestamp": str(NOW + 1)}, "does not belong"),
        ({"webhook-signature": "v1,AAAA"}, "does not belong"),
        ({"webhook-signature": "v2," + GOOD["webhook-signature"][3:]}, "does not belong"),
        ({"webhook-signature": "v1,\udcff"}, "does not belong"),
        ({"webhook-signature": GOOD["webhook-signature"][3:]}, "does not belong"),
    ],
)
def test_whatever_is_wrong_with_a_signature_refuses_it(change: dict[str, str], why: str) -> None:
    assert why in refused({**GOOD, **change})


def test_another_body_or_another_secret_is_refused() -> None:
    assert "does not belong" in refused(GOOD, body=BODY + b" ")
    assert "does not belong" in refused(GOOD, "whsec_AAAA")


def test_an_old_signature_is_refused_and_one_from_the_future_too() -> None:
    assert check(GOOD, now=NOW + 299)
    assert "too old" in refused(GOOD, now=NOW + 301)
    assert "future" in refused(GOOD, now=NOW - 301)
    assert check(GOOD, now=NOW + 3000, tolerance=Duration(3600))


def test_the_vector_of_github_is_taken() -> None:
    right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": right, "x-github-delivery": "72d3162e"}
    secret, body = "It's a Secret to Everybody", b"Hello, World!"
    assert check(headers, secret, body=body, header="X-Hub-Signature-256") == "72d3162e"
    assert "does not belong" in refused(headers, secret, body=b"Hello", header="X-Hub-Signature-256")


def stripe(secret: str, body: bytes, moment: int) -> str:
    mac = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={'0' * 64},v1={mac},v0=abc"


def test_the_form_of_stripe_signs_time_and_body_and_names_the_message_by_its_signature() -> None:
    headers = {"stripe-signature": stripe("whsec_abc", BODY, NOW)}
    named = check(headers, "whsec_abc", header="Stripe-Signature")
    assert named == check(headers, "whsec_abc", header="Stripe-Signature")
    assert named
    assert "too old" in refused(headers, "whsec_abc", header="Stripe-Signature", now=NOW + 400)
    assert "does not belong" in refused(headers, "whsec_xyz", header="Stripe-Signature")
    late = {"stripe-signature": headers["stripe-signature"].replace(f"t={NOW}", f"t={NOW + 60}")}
    assert "does not belong" in refused(late, "whsec_abc", header="Stripe-Signature")


def test_a_plain_hmac_may_be_hex_or_base64() -> None:
    mac = hmac.digest(b"s3cr3t", BODY, "sha256")
    for said in (mac.hex(), mac.hex().upper(), f"sha256={mac.hex()}", b64encode(mac).decode()):
        assert check({"x-signature": said}, "s3cr3t", header="X-Signature") is None
    assert "does not belong" in refused({"x-signature": "00" * 32}, "s3cr3t", header="X-Signature")


async def test_a_signed_post_is_accepted_once_and_an_unsigned_one_is_401() -> None:
    services = FakeServices(listeners={"default": make_listener()}, secrets={"hook": STANDARD, "old": "0ld"})
    accept = FakeAccept()
    made = options_of(SOURCE, http="POST /hook", verify={"hmac": "secret:hook", "previous": "secret:old"})
    async with services, SOURCE.open(made, make_context(services)) as source, running(source, accept):
        shared = await services.shared(("http", "default"), lambda: None)
        await eventually(lambda: shared.port)
        url = f"http://127.0.0.1:{shared.port}/hook"
        moment = int(time.time())
        key = b"\x31\xf2\x90\xf6\xbf\x06\x29\x8a\xab\x4f\x08\xd4\x3c\x3f\x08\x2c\xf6\x48\xa3\x62\xda\x2d\xa4\xb0"
        mac = hmac.digest(key, f"msg_1.{moment}.".encode() + BODY, "sha256")
        signed = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(moment),
            "webhook-signature": f"v1,{b64encode(mac).decode()}",
        }
        async with aiohttp.ClientSession() as client:
            async with client.post(url, data=BODY, headers=signed) as said:
                assert said.status == 202
            async with client.post(url, data=BODY) as said:
                assert (said.status, (await said.json(content_type=None))["code"]) == (401, "A318")
            async with client.post(url, data=BODY, headers={**signed, "Idempotency-Key": "mine"}) as said:
                assert said.status == 202
        assert [taken.incoming.once for taken in accept.taken] == ["msg_1", "mine"]
        await asyncio.sleep(0)


async def test_while_the_secret_cannot_be_read_the_sender_is_told_to_come_again() -> None:
    services = FakeServices(listeners={"default": make_listener()})
    made = options_of(SOURCE, http="POST /hook", verify={"hmac": "secret:gone"})
    async with services, SOURCE.open(made, make_context(services)) as source, running(source, FakeAccept()):
        shared = await services.shared(("http", "default"), lambda: None)
        await eventually(lambda: shared.port)
        url = f"http://127.0.0.1:{shared.port}/hook"
        async with aiohttp.ClientSession() as client, client.post(url, data=BODY, headers=GOOD) as said:
            assert (said.status, (await said.json(content_type=None))["code"]) == (503, "A301")
        assert services.healths[-1][1] == "degraded"


async def test_a_get_cannot_be_signed() -> None:
    services = FakeServices(listeners={"default": make_listener()})
    with pytest.raises(OptionError, match="no body to sign"):
        async with SOURCE.open(
            options_of(SOURCE, http="GET /hook", verify={"hmac": "secret:hook"}), make_context(services)
        ):
            pass
