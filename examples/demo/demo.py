"""The main job on real input, with everything going wrong that usually does. `make demo` runs it; `make demo KEEP=1`
leaves the bus running, `make demo-rabbit` runs it on RabbitMQ. It uses the shipped routes.toml, with free ports, in a
folder of its own."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ROOM = ROOT / ".build" / "demo"
ESB = str(Path(sys.executable).parent / "esb")
ORDERS = 60
ROWS = 40


def say(text: str) -> None:
    print(text, flush=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def esb(*words: str) -> str:
    """Runs a command in the demo's folder and gives what it printed; ends the demo when it fails."""
    done = subprocess.run([ESB, *words], cwd=ROOM, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise SystemExit(f"esb {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def call(url: str, body: bytes | None = None) -> tuple[int, Any]:
    """One HTTP call; (0, None) when nobody answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] in b"{[" else text.decode()
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return 0, None


class Demo:
    """The story, one method a scene."""

    def __init__(self, broker: str = "embedded") -> None:
        self.broker = broker
        self.http, self.shop, self.ledger, self.admin = free_ports(4)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.acknowledged: set[str] = set()

    def prepare(self) -> None:
        shutil.rmtree(ROOM, ignore_errors=True)
        (ROOM / "drop").mkdir(parents=True)
        table = (ROOT / "routes.toml").read_text()
        for old, new in ((8080, self.http), (9001, self.shop), (9002, self.ledger)):
            table = table.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
        (ROOM / "routes.toml").write_text(table)
        say("1. The table is checked before anything runs: esb check")
        esb("check")
        say("   clean; and its own tests pass: " + esb("test").strip().splitlines()[-1])

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (ROOM / "run.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOM, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def targets(self, shop: bool, ledger: bool) -> subprocess.Popen[bytes]:
        ports = (str(self.shop if shop else 0), str(self.ledger if ledger else 0))
        process = self.start(sys.executable, str(HERE / "targets.py"), *ports)
        for port in (int(port) for port in ports if port != "0"):
            self.wait(lambda port=port: call(f"http://127.0.0.1:{port}/taken")[0] == 200, "a target to answer")
        return process

    def bus(self) -> subprocess.Popen[bytes]:
        process = self.start(ESB, "run", "--broker", self.broker)
        self.wait(lambda: self.status() is not None, "the bus to be ready")
        return process

    def status(self) -> Any:
        done = subprocess.run([ESB, "status", "--json"], cwd=ROOM, capture_output=True, text=True, check=False)
        status = json.loads(done.stdout) if done.returncode == 0 else None
        return status if status is not None and status["running"] else None

    def wait(self, done: Any, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise SystemExit(f"waited {seconds:.0f} s for {what}; see {ROOM / 'run.log'}")
            time.sleep(0.1)

    def drop_rows(self) -> None:
        rows = [f"R{n:03};ACME;{n}.50;A{n};{n % 5 + 1}" for n in range(ROWS)]
        rows[11] = "R011;ACME;11.50;A11"
        rows[23] = "R023;ACME;23.50;A23;many"
        text = "order;customer;total;sku;qty\n" + "\n".join(rows) + "\n"
        part = ROOM / "drop" / ".branch-7.part"
        part.write_text(text)
        part.rename(ROOM / "drop" / "branch-7.csv")
        say(
            f"2. A branch office drops a CSV with {ROWS} rows; line 13 lacks a field, line 25 has a quantity of 'many'."
        )

    def post(self, number: int) -> None:
        """Posts one XML order until its fate is known: its own number is its key, so a resend changes nothing."""
        customer = "unknown" if number == 5 else "ACME"
        total = "25000.00" if number % 10 == 0 else f"{number}.90"
        order = (
            f'<Order id="X{number}"><Customer>{customer}</Customer><Total>{total}</Total>'
            f"<Lines><Line><Sku>A{number}</Sku><Qty>2</Qty></Line></Lines></Order>"
        )
        for _ in range(50):
            status, _ = call(f"http://127.0.0.1:{self.http}/orders", order.encode())
            if status == 202:
                self.acknowledged.add(f"X{number}")
                return
            time.sleep(0.1)
        raise SystemExit(f"order X{number} was not acknowledged")

    def taken(self, port: int) -> dict[str, Any]:
        _, answer = call(f"http://127.0.0.1:{port}/taken")
        return {order["id"]: order for order in answer["taken"]}

    def story(self, keep: bool) -> None:
        self.prepare()
        shop = self.targets(True, False)
        self.targets(False, True)
        bus = self.bus()
        self.drop_rows()
        say(f"3. A partner posts {ORDERS} XML orders; the shop goes down, then the bus is killed (SIGKILL).")
        for number in range(ORDERS // 3):
            self.post(number)
        shop.send_signal(signal.SIGKILL)
        say("   ... the shop is down; orders go on being accepted")
        for number in range(ORDERS // 3, 2 * ORDERS // 3):
            self.post(number)
        bus.send_signal(signal.SIGKILL)
        bus.wait()
        say(f"   ... the bus is killed with {len(self.acknowledged)} orders acknowledged; its partner finds it gone")
        bus = self.bus()
        say("   ... the bus is back, the shop is not")
        for number in range(ORDERS):
            if f"X{number}" not in self.acknowledged:
                self.post(number)
        shop = self.targets(True, False)
        say("4. The shop comes back (it lost nothing of ours: what it had taken it takes again, with the same ids).")
        esb("waiting", "now", "shop")
        self.settle()
        self.verdict()
        self.dead_letter()
        self.page()
        if keep:
            self.stay()
        bus.send_signal(signal.SIGTERM)
        bus.wait(40)
        say(f"8. SIGTERM: the bus drained and ended with exit code {bus.returncode}.")

    def settle(self) -> None:
        def done() -> bool:
            status = self.status()
            return bool(status) and sum(target["waiting"] for target in status["targets"]) == 0

        self.wait(done, "every delivery to have its outcome")
        self.wait(lambda: (ROOM / "drop" / "done" / "branch-7.csv").exists(), "the file to be done")

    def verdict(self) -> None:
        lines = [line for file in (ROOM / "archive").glob("*.jsonl") for line in file.read_text().splitlines()]
        archive = [json.loads(line) for line in lines]
        archived = {order["id"] for order in archive}
        orders = {name for name in archived if name.startswith("X")}
        rows = {name for name in archived if name.startswith("R")}
        lost = self.acknowledged - orders
        said = f"{len(self.acknowledged)} orders were acknowledged, {len(orders)} arrived in the archive"
        say(f"5. {said}, {len(lost)} are lost.")
        each = f"{len(archive)} lines, {len(archived)} different"
        say(f"   {len(rows)} of {ROWS} rows went out as JSON, each once: {each}.")
        (bad,) = (ROOM / "drop" / "bad").glob("*.bad.csv")
        say(f"   The 2 bad rows came back in drop/bad/{bad.name}:")
        for line in bad.read_text().splitlines():
            say(f"       {line}")
        account = json.loads(esb("account", "--json"))
        say(f"   esb account: balanced = {str(account['balanced']).lower()}")
        if lost or len(rows) != ROWS - 2 or len(archive) != len(archived) or not account["balanced"]:
            raise SystemExit("the demo did not come out as promised")

    def dead_letter(self) -> None:
        say("6. One order is a dead letter: the shop does not know its customer. esb dead list")
        listed = esb("dead", "list")
        for line in listed.strip().splitlines():
            say(f"       {line}")
        if "X5" in self.taken(self.shop):
            raise SystemExit("the order of an unknown customer should have been refused")
        call(f"http://127.0.0.1:{self.shop}/learn", b"")
        esb("dead", "replay", "--target", "shop")
        self.wait(lambda: "X5" in self.taken(self.shop), "the replayed order")
        say("   The shop learns the customer; esb dead replay --target shop: the order has arrived.")
        self.wait(lambda: json.loads(esb("account", "--json"))["balanced"], "the books to balance")

    def page(self) -> None:
        page = ROOM / "status.html"
        page.write_text(esb("status", "--html"))
        say(f"7. A page to look at: {page.relative_to(ROOT)}")

    def stay(self) -> None:
        say(f"   The bus goes on running: http://127.0.0.1:{self.http}/orders takes orders (Ctrl-C ends it).")
        signal.pause()

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def main() -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        broker = "embedded"
        if "--rabbit" in sys.argv:
            say("0. A RabbitMQ of the demo's own is started; the bus forwards every delivery over it.")
            sys.path.insert(0, str(ROOT / "tests"))
            from rabbit import rabbit

            shutil.rmtree(ROOM.with_name("demo-rabbit"), ignore_errors=True)
            broker = stack.enter_context(rabbit(ROOM.with_name("demo-rabbit"))).url
        demo = Demo(broker)
        stack.callback(demo.end)
        demo.story("--keep" in sys.argv)
    say(f"Nothing was lost and nothing was silent, in {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
