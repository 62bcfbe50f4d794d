"""Documents run as a reader would: blocks of a page in order, each command in one shell with a terminal, and what it
prints held against what the page shows."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ID = r"[0-9a-f]{8}-[0-9a-f-]{27}(?:\.[a-z][\w-]*)?"
PLACEHOLDERS = {
    "ID": ID,
    "TIME": r"\d{4}-\d\d-\d\dT\S+",
    "HASH": r"[0-9a-f]{8,}",
    "...": r".*?",
    "KEY": r"[\w-]+\.[\w-]{20,}",
}
PATIENCE = 20.0
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"`([\w./@-]+\.\w+)`[^`\n]*:\s*$")
_LOOKING = re.compile(r"(ls|cat|curl -s --unix|esb (status|account|messages|waiting(?! now)|\w+ (list|show)))\b")
_END = "\x1e"


@dataclass(frozen=True)
class Block:
    """One fenced block; `file` is the name that the line before it gives, "" for none."""

    kind: str
    text: str
    file: str
    place: str


@dataclass(frozen=True)
class Command:
    """One line to type. `code` is how it ends (`# ends with 1`), `shown` the lines that the page shows below it."""

    text: str
    code: int
    shown: tuple[str, ...]
    place: str


@dataclass
class Said:
    """How a command ended, and what stood on the terminal then."""

    code: int
    text: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip("\n")
        line = before[before.rfind("\n\n") + 1 :].replace("\n", " ")
        named = _NAMED.search(line)
        number = text.count("\n", 0, match.start()) + 1
        place = f"{page.relative_to(ROOT)}:{number}" if page.is_relative_to(ROOT) else f"{page.name}:{number}"
        found.append(Block(match[1], match[2], named[1] if named else "", place))
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a block: every line of `sh`, of `console` those after `$ `, each with what it shows."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if block.kind == "console" and not line.startswith("$ "):
            last = found.pop()
            found.append(Command(last.text, last.code, (*last.shown, line), last.place))
        elif line.strip():
            ends = re.search(r"# ends with (\d)", line)
            typed = line.removeprefix("$ ") if block.kind == "console" else line
            found.append(Command(typed, int(ends[1]) if ends else 0, (), block.place))
    return found


def shows(printed: str, shown: tuple[str, ...]) -> bool:
    """Whether the lines that a page shows stand in what was printed, in their order. Spaces do not count; ID, TIME,
    HASH and KEY stand for any such thing, and `...` for anything."""
    left = [" ".join(line.split()) for line in printed.splitlines()]
    for line in shown:
        if line.strip() in ("", "..."):
            continue
        words = re.split(r"(\bID\b|\bTIME\b|\bHASH\b|\bKEY\b|\.\.\.)", " ".join(line.split()))
        pattern = re.compile("".join(PLACEHOLDERS.get(word, re.escape(word)) for word in words))
        at = next((at for at, given in enumerate(left) if pattern.fullmatch(given)), None)
        if at is None:
            return False
        left = left[at + 1 :]
    return True


class Terminal:
    """A shell in a folder, with a terminal: commands are typed one after the other, and run in the background with `&`.
    Closing it ends what it started."""

    def __init__(self, folder: Path, path: Path = BIN, env: Mapping[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 240, 0, 0))
        settings = termios.tcgetattr(slave)
        settings[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ESB_"))}
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env={**given, "PATH": f"{path}:{os.environ['PATH']}", "TERM": "dumb", **(env or {})},
            stdin=subprocess.PIPE,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def type(self, line: str) -> Said:
        """Types one line and waits for its end; what a background command says meanwhile is in the text too."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{{ {line}\n}} </dev/null; printf '{_END}%d{_END}' $?\n".encode())
        self._shell.stdin.flush()
        seen, deadline = b"", time.monotonic() + PATIENCE
        while (ended := re.search(rb"\x1e(\d+)\x1e", seen)) is None:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"{line}: not ended after {PATIENCE} s\n{seen.decode(errors='replace')}")
            seen += os.read(self._master, 65536)
        return Said(int(ended[1]), seen[: ended.start()].decode(errors="replace"))

    def close(self) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self.type("kill $(jobs -p) 2>/dev/null; wait; true")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        assert self._shell.stdin is not None
        with contextlib.suppress(OSError):
            self._shell.stdin.close()
        self._shell.wait()
        os.close(self._master)


@dataclass
class Reader:
    """Somebody who follows a page. `words` are what they put for the page's other placeholders, ports of the page that
    may be taken here are exchanged for free ones."""

    terminal: Terminal
    folder: Path
    words: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    newest: str = ""

    def filled(self, text: str) -> str:
        """The text as typed here: `ID` is the newest one that was seen."""
        for word, value in self.words.items():
            text = re.sub(rf"\b{word}\b", lambda _, value=value: value, text)
        for port, free in self.ports.items():
            text = text.replace(f":{port}", f":{free}")
        if re.search(r"\bID\b", text):
            assert self.newest, f"{text}: no id was printed before"
            text = re.sub(r"\bID\b", self.newest, text)
        return text

    def follow(self, block: Block) -> list[Said]:
        """Types a block's commands, or writes the file that it is."""
        if block.kind in ("sh", "console"):
            return [self.does(command) for command in commands(block)]
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.filled(block.text))
        return []

    def does(self, command: Command) -> Said:
        """Types one command. One that only looks, and whose page shows something else than it printed, is typed again,
        as a reader does who waits for it."""
        line = self.filled(re.sub(r"\s+# .*", "", command.text))
        deadline = time.monotonic() + PATIENCE
        while True:
            said = self.terminal.type(line)
            good = shows(said.text, tuple(self.filled_shown(line) for line in command.shown))
            if (said.code == command.code and good) or not command.shown or time.monotonic() > deadline:
                break
            if not _LOOKING.match(line):
                break
            time.sleep(0.2)
        assert said.code == command.code, f"{command.place} {line}: ended with {said.code}\n{said.text}"
        assert "Traceback" not in said.text, f"{command.place} {line}\n{said.text}"
        assert good, f"{command.place} {line}\nis shown as\n{chr(10).join(command.shown)}\nbut printed\n{said.text}"
        if found := re.findall(ID, said.text):
            self.newest = found[0]
        if "KEY" in command.shown:
            self.words["KEY"] = said.text.splitlines()[0].strip()
        return said

    def filled_shown(self, line: str) -> str:
        for port, free in self.ports.items():
            line = line.replace(f":{port}", f":{free}")
        return line


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Neighbour:
    """A system behind a target: takes what is posted (`refuse` says with which status it answers instead), or is away."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.bodies: list[tuple[str, bytes]] = []
        self.answer: Callable[[str, bytes], tuple[int, bytes]] = lambda path, body: (200, b"taken")

    @contextmanager
    def there(self) -> Iterator[Neighbour]:
        neighbour = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, said = neighbour.answer(self.path, body)
                if status < 300:
                    neighbour.bodies.append((self.path, body))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *said: object) -> None:
                """Nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away is no fault of a test."""

        with Server(("127.0.0.1", self.port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


@contextmanager
def reading(folder: Path, path: Path = BIN, *, env: Mapping[str, str] | None = None, **words: str) -> Iterator[Reader]:
    """A reader at a terminal in a folder."""
    terminal = Terminal(folder, path, env)
    try:
        yield Reader(terminal, folder, words)
    finally:
        terminal.close()
