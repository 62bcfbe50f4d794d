"""What a stranger may not do to a running bus (FAULTS F and H), seen from outside."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from fault_house import ORDERS, OUT, books, make, post, running, until
from house_process import ESB, House, free_port

PLUGIN = Path(__file__).with_name("faulty_plugin.py")
SECRET = "5ecret-w0rd-of-the-erp"
TABLE = """
[secrets]
erp = "env:ERP_WORD"
[auth.erp]
bearer = "secret:erp"
[retry.quick]
permanent = {{ attempts = 1 }}
transient = {{ first = "50ms", cap = "100ms", max_age = "1m" }}
[target.erp]
http = "POST {erp}/in"
auth = "erp"
headers = {{ X-Channel = '{{header["x-channel"]}}' }}
id_header = "Idempotency-Key"
retry = "quick"
[route.erp]
from = {{ http = "POST /erp" }}
to = ["erp"]
"""


class Seen:
    """What the target and the host it points to were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.elsewhere = 0


@asynccontextmanager
async def target(seen: Seen) -> AsyncIterator[str]:
    """A target that answers as told; a redirect leads to another port."""
    port, other = free_port(), free_port()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen.asked.append((request.path, headers, await request.read()))
        told = f"no: {headers.get('authorization', '')}"
        headers = {"Location": f"http://127.0.0.1:{other}/in"} if 300 <= seen.status < 400 else {}
        return web.Response(status=seen.status, text=told, headers=headers)

    async def stranger(request: web.BaseRequest) -> web.StreamResponse:
        seen.elsewhere += 1
        return web.Response()

    runners = []
    for handler, bound in ((handle, port), (stranger, other)):
        runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", bound).start()
        runners.append(runner)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        for runner in runners:
            await runner.cleanup()


async def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One `esb` command."""
    return await asyncio.to_thread(
        subprocess.run, [*ESB, *arguments], cwd=folder, capture_output=True, text=True, timeout=30
    )


async def entries(house: House, book: str) -> dict[str, int]:
    _, account = await house.ask("/account")
    assert account["balanced"], account["differences"]
    return books(account, book)


async def test_a_redirect_is_never_given_the_login_and_no_secret_is_told_faults_66_85_87(tmp_path: Path) -> None:
    seen = Seen()
    async with target(seen) as address:
        port = make(tmp_path, OUT + ORDERS + TABLE.format(erp=address))
        house = House(tmp_path, env={"ERP_WORD": SECRET})
        async with running(house, port):
            seen.status = 307
            assert await post(port, b"one", "/erp") == 202
            await until(lambda: len(seen.asked) == 1, "it is tried")
            seen.status = 422
            assert await post(port, b"two", "/erp") == 202
            await until(lambda: len(seen.asked) >= 2, "it is tried")
            deadline = asyncio.get_running_loop().time() + 10
            while (await entries(house, "deliveries")).get("dead", 0) != 2:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.05)
            assert all(headers["authorization"] == f"Bearer {SECRET}" for _, headers, _ in seen.asked)
            assert seen.elsewhere == 0, "a redirect is not followed"
            told = [
                await house.ask(path) for path in ("/status", "/held/dead", "/waiting", "/messages", "/actions", "/")
            ]
            ids = [row["id"] for row in (await house.ask("/held/dead"))[1]["deliveries"]]
            told.append(await house.ask(f"/messages/{ids[0].partition('.')[0]}?body=1"))
            shown = await command(tmp_path, "dead", "show", ids[0])
            told_by_command = await command(tmp_path, "secrets")
            assert shown.returncode == 0, shown.stderr
            everything = json.dumps(told, default=str) + shown.stdout + told_by_command.stdout + house.tail(500)
            assert SECRET not in everything
            # FAULTS 87: a release that is made again, by two people at once, sends nothing twice.
            seen.status = 200
            before = len(seen.asked)
            await asyncio.gather(*(command(tmp_path, "dead", "release", "--all") for _ in range(2)))
            deadline = asyncio.get_running_loop().time() + 10
            while (await entries(house, "deliveries")).get("delivered", 0) != 2:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.05)
            assert len(seen.asked) - before == 2
            _, actions = await house.ask("/actions")
            assert "release" in {item["what"] for item in actions["actions"]}, "and it is written down who did"
            assert house.stop() == 0


async def test_a_header_of_a_message_stays_one_header_of_the_call_faults_71(tmp_path: Path) -> None:
    seen = Seen()
    async with target(seen) as address:
        port = make(tmp_path, OUT + ORDERS + TABLE.format(erp=address))
        house = House(tmp_path, env={"ERP_WORD": SECRET})
        async with running(house, port), aiohttp.ClientSession() as session:
            values = ["caf\u00e9", "x" * 6000, 'a: b; c="d"', "%0d%0aX-Evil: 1"]
            for value in values:
                headers = {"X-Channel": value}
                async with session.post(f"http://127.0.0.1:{port}/erp", data=b"x", headers=headers) as answer:
                    assert answer.status == 202
            await until(lambda: len(seen.asked) == len(values), "they arrive")
            assert sorted(headers["x-channel"] for _, headers, _ in seen.asked) == sorted(values)
            assert not any("x-evil" in headers for _, headers, _ in seen.asked)


async def test_a_plugin_that_others_may_write_or_that_fails_is_left_out_by_name_faults_47_84(tmp_path: Path) -> None:
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    shutil.copy(PLUGIN, adapters / "faulty.py")
    (adapters / "faulty.py").chmod(0o622)
    (adapters / "broken.py").write_text("import a_package_that_is_not_there\n")
    (adapters / "leaving.py").write_text("raise SystemExit(0)\n")
    port = make(tmp_path, OUT + ORDERS, bus='plugins = "adapters"')
    house = House(tmp_path)
    async with running(house, port):
        assert await post(port, b"the others run") == 202
        listed = await command(tmp_path, "plugin", "list")
        assert "may be written by others" in listed.stdout
        assert "a_package_that_is_not_there" in listed.stdout
        assert "leaving" in listed.stdout
        assert house.stop() == 0
    text = (tmp_path / "routes.toml").read_text()
    (tmp_path / "routes.toml").write_text(text.replace('to = ["out"]', 'do = [{ faulty = "" }]\nto = ["out"]'))
    refused = await command(tmp_path, "check")
    assert refused.returncode == 2, "a route that needs it is refused, by name"
    assert 'no step named "faulty"; the plugin faulty was left out: E133' in refused.stdout
    stopped = House(tmp_path)
    async with running(stopped):
        assert await post(port, b"nobody takes it") != 202
        _, status = await stopped.ask("/ready")
        assert [item["component"] for item in status["problems"]] == ["route.orders"]
        assert stopped.stop() == 0
    (adapters / "faulty.py").chmod(0o600)
    adapters.chmod(0o777)
    refused = await command(tmp_path, "check")
    assert refused.returncode == 2


async def test_what_a_sender_wrote_cannot_forge_a_line_of_the_log_faults_86(tmp_path: Path) -> None:
    evil = "x\n2026-01-01T00:00:00.000+00:00 CRITICAL esb forged \x1b[31mred\u202e"
    log = (
        '[route.log]\nfrom = { http = "POST /log" }\ndo = [{ log = "said {header[\'x-said\']} {raw}" }]\nto = ["out"]\n'
    )
    port = make(tmp_path, OUT + ORDERS + log)
    (tmp_path / "drop").mkdir()
    house = House(tmp_path)
    async with running(house, port), aiohttp.ClientSession() as session:
        async with session.post(f"http://127.0.0.1:{port}/log", data=evil, headers={"X-Said": "a"}) as answer:
            assert answer.status in (202, 422)
            said: Any = await answer.text()
        assert "Traceback" not in said
        for _ in range(2):
            async with session.post(f"http://127.0.0.1:{port}/nowhere/{evil!r}") as answer:
                assert answer.status == 404
        assert house.stop() == 0
    text = house.log.read_text()
    assert "said" in text
    assert not any(" CRITICAL esb forged" in line[:60] for line in text.splitlines())
    assert "\x1b" not in text
    assert "\u202e" not in text
