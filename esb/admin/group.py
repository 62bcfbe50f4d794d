"""The control bus of several workers: each question goes to all of them, their answers are made one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web

from esb.admin.api import Api, page, served
from esb.admin.doors import Door
from esb.secrets import Secrets
from esb.table.model import Table

PATIENCE: Final = aiohttp.ClientTimeout(total=40)
_ONE: Final = frozenset({"/inject"})
"""What goes to one worker, whichever answers."""
COPIED_STOPPED: Final = "a bus with workers has several stores: stop it, and copy its whole folder"
_IDENTITY: Final = (("book", "name"), ("name",), ("target",), ("component", "reason"))
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(\{(.*)\})? (\S+.*)")


def merged(answers: Sequence[Any]) -> Any:
    """One answer of several: numbers are summed, truths hold where all hold, lists are joined, with what has one name
    made one; of texts the first that says something, of moments the oldest."""
    first = next((item for item in answers if item is not None), None)
    if isinstance(first, dict):
        tables = [item for item in answers if isinstance(item, dict)]
        names = dict.fromkeys(name for item in tables for name in item)
        return {name: _named(name, [item[name] for item in tables if name in item]) for name in names}
    if isinstance(first, list):
        return _joined([entry for item in answers if isinstance(item, list) for entry in item])
    if isinstance(first, bool):
        return all(answers)
    if isinstance(first, (int, float)):
        return sum(item for item in answers if isinstance(item, (int, float)))
    return next((item for item in answers if item), first)


def _named(name: str, values: Sequence[Any]) -> Any:
    if name == "disk_free":
        return min(values)
    if name == "oldest":
        return min((item for item in values if item), default=None)
    if name == "messages" and all(isinstance(item, list) for item in values):
        rows = [row for item in values for row in item]
        return sorted(rows, key=lambda row: (str(row.get("accepted", "")), str(row.get("id", ""))), reverse=True)
    return merged(values)


def _joined(entries: Sequence[Any]) -> list[Any]:
    """A list in which things of one name stand once."""
    groups: dict[Any, list[Any]] = {}
    for number, entry in enumerate(entries):
        known = entry if isinstance(entry, dict) else {}
        keys = next((keys for keys in _IDENTITY if "id" not in known and all(key in known for key in keys)), None)
        name: Any = number if keys is None else tuple(str(entry[key]) for key in keys)
        groups.setdefault(repr(entry) if not isinstance(entry, (dict, list)) else name, []).append(entry)
    return [group[0] if len(group) == 1 else merged(group) for group in groups.values()]


def figures(texts: Mapping[str, str]) -> str:
    """Prometheus texts of several workers as one: each sample with the label `worker`, each family told once."""
    families: dict[str, tuple[list[str], list[str]]] = {}
    for worker, text in texts.items():
        head: list[str] = []
        family = ""
        for line in text.splitlines():
            if line.startswith("# "):
                family = line.split(" ")[2]
                head, _ = families.setdefault(family, ([], []))
                if line not in head:
                    head.append(line)
            elif (found := _SAMPLE.fullmatch(line)) is not None:
                labels = f'worker="{worker}"' + (f",{found[3]}" if found[3] else "")
                families.setdefault(family, ([], []))[1].append(f"{found[1]}{{{labels}}} {found[4]}")
    return "".join(f"{line}\n" for head, samples in families.values() for line in (*head, *samples))


class Group:
    """The workers of one machine, by name, each with the socket of its admin API."""

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self.sockets = sockets

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """Status and answer of all; `absent` names the workers that did not answer. One that knows nothing of a thing
        says nothing where another one knows it."""
        if path == "/backup" and len(self.sockets) > 1:
            return 400, {"title": COPIED_STOPPED, "status": 400, "code": "C400"}
        only = path.split("?")[0] in _ONE
        found = await self._one(method, path, body) if only else await self._all(method, path, body)
        absent = [name for name, (status, _) in found.items() if not status]
        answers = [answer for status, answer in found.values() if 200 <= status < 300]
        if path == "/ready" and len(answers) < len(found):
            answers = [answer for status, answer in found.values() if status and "state" in answer]
        if not answers:
            status, answer = next(((status, answer) for status, answer in found.values() if status), (503, None))
            return status, answer or {"title": "no worker answers", "status": 503, "code": "C503"}
        whole = merged(answers)
        if absent and isinstance(whole, dict):
            whole["absent"] = absent
            if "state" in whole:
                whole["state"] = "degraded"
        return 200, whole

    async def _all(self, method: str, path: str, body: bytes) -> dict[str, tuple[int, Any]]:
        answers = await asyncio.gather(*(self.asked(name, method, path, body) for name in self.sockets))
        return dict(zip(self.sockets, answers, strict=True))

    async def _one(self, method: str, path: str, body: bytes) -> dict[str, tuple[int, Any]]:
        for name in self.sockets:
            answer = await self.asked(name, method, path, body)
            if answer[0]:
                return {name: answer}
        return {}

    async def asked(self, name: str, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """What one worker says; (0, None) where it does not."""
        try:
            connector = aiohttp.UnixConnector(path=str(self.sockets[name]))
            headers = {"Content-Type": "application/json"} if method == "POST" else {}
            async with (
                aiohttp.ClientSession(connector=connector, timeout=PATIENCE) as session,
                session.request(method, f"http://esb{path}", data=body or None, headers=headers) as answer,
            ):
                text = await answer.text()
                return answer.status, json.loads(text) if text[:1] in ("{", "[") else text
        except (OSError, aiohttp.ClientError, TimeoutError):
            return 0, None


class GroupApi(Api):
    """The admin API of the group, with the doors of each worker's own."""

    def __init__(
        self, table: Table, group: Group, *, key: str | None = None, hosts: frozenset[str] = frozenset()
    ) -> None:
        self._name = table.bus.name
        self._key = key
        self._hosts = hosts
        self._group = group

    def _handler(self, door: Door) -> Any:
        async def handle(request: web.Request) -> web.Response:
            status, answer = await self._group.ask(request.method, request.path_qs, await request.read())
            if door.path == "/ready" and status == 200 and answer["state"] != "ready":
                status = 503
            media = "application/json" if status < 400 or door.path == "/ready" else "application/problem+json"
            return web.Response(status=status, body=msgspec.json.encode(answer), content_type=media)

        return handle

    async def _figures(self, request: web.Request) -> web.Response:
        texts = {name: await self._group.asked(name, "GET", "/metrics") for name in self._group.sockets}
        body = figures({name: str(text) for name, (status, text) in texts.items() if status == 200})
        return web.Response(text=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _page(self, request: web.Request) -> web.Response:
        async def get(path: str) -> Any:
            return (await self._group.ask("GET", path))[1]

        async def listed(ask: Mapping[str, Any]) -> Any:
            return await get(f"/held/{ask['kind']}?limit={ask['limit']}")

        control: Any = SimpleNamespace(
            status=lambda ask: get("/status"), account=lambda ask: get("/account"), boxes=SimpleNamespace(list=listed)
        )
        return web.Response(text=await page(control), content_type="text/html")


def serving_group(table: Table, group: Group) -> AbstractAsyncContextManager[str]:
    """The group's admin API at the bus's own address, for as long as the block; gives the address."""
    key = None if table.bus.admin_key is None else Secrets(table.secrets, table.folder).read(table.bus.admin_key)
    return served(table, key, lambda hosts: GroupApi(table, group, key=key, hosts=hosts).application())
