"""A private RabbitMQ: a node of its own name, ports and data folder, ended by its process ids."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path(os.environ.get("ESB_RABBITMQ_HOME", "/usr/lib/rabbitmq"))
"""Where the server is; another version is tested by naming its folder here."""
PATIENCE = 90.0


def free_port() -> int:
    """A TCP port of the loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str) -> str:
    """A program of the server, `rabbitmqctl` or `rabbitmq-server`."""
    for folder in (HOME / "bin", HOME / "sbin"):
        if (folder / name).exists():
            return str(folder / name)
    raise FileNotFoundError(f"{name}: no RabbitMQ in {HOME} (.ci/packages rabbitmq-server, or set ESB_RABBITMQ_HOME)")


class Rabbit:
    """One node. `url` is where clients connect; `start`, `stop`, `kill` and `ctl` act on it."""

    def __init__(self, folder: Path, name: str = "", *, epmd: int = 0, config: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.node = f"{name or 'esb' + secrets.token_hex(4)}@localhost"
        self.epmd = epmd or free_port()
        self._dist = free_port()
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "home").mkdir(parents=True, exist_ok=True)
        cookie = folder.parent / "cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
        shutil.copy(cookie, folder / "home" / ".erlang.cookie")
        (folder / "home" / ".erlang.cookie").chmod(0o400)
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\nheartbeat = 10\n"
            f"disk_free_limit.absolute = 10MB\n{config}\n"
        )
        (folder / "plugins").write_text("[].")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def launch(self) -> None:
        """Begins to start; `ready` waits for it."""
        (self.folder / "pid").unlink(missing_ok=True)
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [program("rabbitmq-server")], env=self.environment, stdout=out, stderr=out, start_new_session=True
            )

    def ready(self) -> None:
        """Returns when clients can connect; raises RuntimeError with the server's own words when that never comes."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.1)
        raise RuntimeError(f"RabbitMQ does not start: {(self.folder / 'out').read_text()[-2000:]}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as wire:
                wire.sendall(b"AMQP\x00\x00\x09\x01")
                wire.settimeout(2)
                return bool(wire.recv(1))
        except OSError:
            return False

    def start(self) -> None:
        self.launch()
        self.ready()

    def ctl(self, *words: str) -> str:
        """What `rabbitmqctl` says; raises CalledProcessError."""
        done = subprocess.run(
            [program("rabbitmqctl"), "-q", *words], env=self.environment, capture_output=True, text=True, check=True,
            timeout=60,
        )  # fmt: skip
        return done.stdout

    def stop(self) -> None:
        """A stop as an operator does it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """A death without a word."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """The node stands still and keeps its connections."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=30)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)

    def close(self) -> None:
        """The node, and the port mapper that it started."""
        self._end(signal.SIGKILL)
        _end_epmd(self.epmd)


def _end_epmd(port: int) -> None:
    """The port mapper lives on when its node is gone: the one on our port is found by its environment."""
    for entry in Path("/proc").iterdir():
        try:
            epmd = entry.name.isdigit() and (entry / "comm").read_text().strip() == "epmd"
            if epmd and f"ERL_EPMD_PORT={port}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


@contextmanager
def rabbit(folder: Path, config: str = "") -> Iterator[Rabbit]:
    """One running node."""
    node = Rabbit(folder / "rabbit", config=config)
    try:
        node.start()
        yield node
    finally:
        node.close()


@contextmanager
def cluster(folder: Path, size: int = 3) -> Iterator[list[Rabbit]]:
    """Some nodes on this machine that are one cluster."""
    epmd = free_port()
    nodes = [Rabbit(folder / f"rabbit{n}", f"esb{n}x{secrets.token_hex(3)}", epmd=epmd) for n in range(size)]
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.ready()
        for node in nodes[1:]:
            node.ctl("stop_app")
            node.ctl("join_cluster", nodes[0].node)
            node.ctl("start_app")
        yield nodes
    finally:
        for node in nodes:
            node.close()
