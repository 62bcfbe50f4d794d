"""The admin API against its own OpenAPI document: schemathesis asks a real process whatever the document allows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from house_process import House, free_port

TABLE = """
esb = 1
[bus]
name = "schema"
admin = "127.0.0.1:{port}"
admin_key = "secret:admin"
[secrets]
admin = "env:ADMIN_KEY"
[defaults]
owner = "tests@example.org"
[target.out]
memory = "out"
[route.orders]
from = {{ memory = "schema-test" }}
to = ["out"]
"""
KEY = "k" * 32


def wait(port: int, house: House) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/health", headers={"Authorization": f"Bearer {KEY}"})
    for _ in range(400):
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(house.tail())


def test_no_question_the_document_allows_is_answered_with_a_fault(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "routes.toml").write_text(TABLE.format(port=port))
    house = House(tmp_path, env={"ADMIN_KEY": KEY})
    house.start()
    try:
        wait(port, house)
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"), "run", f"http://127.0.0.1:{port}/openapi.json",
                "-H", f"Authorization: Bearer {KEY}", "--checks", "not_a_server_error,status_code_conformance,"
                "content_type_conformance,response_schema_conformance", "--max-examples", "15", "--phases", "fuzzing",
                "--exclude-path", "/drain", "--exclude-path", "/backup", "--seed", "1", "--no-color",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
    finally:
        code = house.stop()
    assert done.returncode == 0, done.stdout[-4000:]
    assert code == 0


def test_the_api_on_tcp_without_a_key_is_refused_at_start(tmp_path: Path) -> None:
    port = free_port()
    text = TABLE.format(port=port).replace('admin_key = "secret:admin"\n', "")
    (tmp_path / "routes.toml").write_text(text)
    house = House(tmp_path)
    house.start()
    assert house.process is not None
    assert house.process.wait(20) in (2, 3)
    assert "key" in house.tail()


def test_a_question_without_the_key_is_401(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "routes.toml").write_text(TABLE.format(port=port))

    async def ask() -> int:
        import aiohttp

        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/status") as answer:
            return answer.status

    house = House(tmp_path, env={"ADMIN_KEY": KEY})
    house.start()
    try:
        wait(port, house)
        assert asyncio.run(ask()) == 401
    finally:
        house.stop()
