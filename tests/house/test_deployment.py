"""What deploys esb is true: image, compose file, unit, alerts and wheelhouse against each other, the command line and the
metrics. Whatever can run without a container engine is run."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import click
import pytest
import setuptools
import yaml
from house_process import House, free_port

from esb.admin.metrics import Metrics
from esb.cli import esb
from esb.plugins import load_plugins
from esb.table.load import load
from esb.units import Duration

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
BUSES = [name for name, service in SERVICES.items() if service.get("command", [""])[0] == "esb"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "esb:local"]
NOT_RUN = (
    "useradd ",
    "install -d -o esb ",
    "/opt/esb/bin/pip install --no-cache-dir --disable-pip-version-check --require",
)
"""Steps of the Dockerfile that this machine is not asked for: its users, and the locked packages that are here."""
LOCKED = "/opt/esb/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r .ci/requirements.lock"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile, an instruction each."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word.isupper()]


def last(word: str) -> str:
    return [rest for found, rest in instructions() if found == word][-1]


def parsed(words: list[str]) -> click.Context:
    """A command as click's own parser takes it; what it does not know raises. An address of a broker stands for any
    word that `--broker` takes, where it takes a list of them only."""
    assert words[0] == "esb"
    context, command, rest = click.Context(esb), esb, words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, words
        command = found  # type: ignore[assignment]
    (broker,) = [item for item in command.params if item.name == "broker"] or [None]
    if "--broker" in rest and broker is not None and isinstance(broker.type, click.Choice):
        rest[rest.index("--broker") + 1] = broker.type.choices[0]
    return command.make_context(command.name, rest)


def secs(text: str) -> float:
    return float(Duration.parse(text))


# The image


def test_the_image_runs_as_nobody_in_particular_and_keeps_no_tools() -> None:
    """Two stages: of the first only /opt/esb is kept, without pip and setuptools."""
    assert [rest.split()[0] for word, rest in instructions() if word == "FROM"] == ["python:3.11-slim"] * 2
    assert re.search(r"useradd .*--uid 10001\b", (ROOT / "Dockerfile").read_text())
    assert last("USER") == "10001:10001"
    copied = [rest for word, rest in instructions() if word == "COPY" and "--from=" in rest]
    assert copied == ["--from=build /opt/esb /opt/esb"]
    steps = [rest for word, rest in instructions() if word == "RUN"]
    assert LOCKED in steps
    assert "/opt/esb/bin/pip uninstall --yes setuptools pip" in steps
    assert [step for step in steps if "http" in step or "index-url" in step] == []


def test_what_the_image_copies_is_there_and_is_sent_to_the_engine() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        word for found, rest in instructions() if found == "COPY" and "--from" not in rest for word in rest.split()[:-1]
    ]
    assert sorted(copied) == sorted(kept)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_every_step_of_the_image_runs(tmp_path: Path) -> None:
    """In a copy of what COPY takes, in a venv with links to the packages of the tests instead of installing the locked ones;
    and what is left is a bus that runs."""
    room = tmp_path / "opt" / "esb"
    venv.create(room, with_pip=True)
    packages = room / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    _locked(packages)
    source = tmp_path / "src"
    source.mkdir()
    ran = 0
    for word, rest in instructions()[1:]:
        if word == "FROM":
            break
        if word == "COPY":
            *names, target = rest.split()
            for name in names:
                _copied(ROOT / name, source / target / (Path(name).name if target == "./" else ""))
        if word == "RUN" and not rest.startswith((*NOT_RUN, "python -m venv")):
            step = rest.replace("/opt/esb", str(room)).replace("/wheels", str(tmp_path / "wheels"))
            done = subprocess.run(
                shlex.split(step), cwd=source, capture_output=True, text=True, check=False, env=_bare()
            )
            assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran == 4
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert wheel.name.startswith("esb-")
    assert [name for name in ("pip", "setuptools") if (packages / name).exists()] == []
    done = subprocess.run(
        [str(room / "bin" / "python"), "-I", "-c", "import esb; print(esb.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(str(room)), "the wheel, not the source tree"
    for words in (["init", "shop"], ["check", "-f", "shop/routes.toml"], ["check", "--explain", "E203"]):
        subprocess.run([str(room / "bin" / "esb"), *words], cwd=tmp_path, check=True, capture_output=True)


def _locked(place: Path) -> None:
    """The packages of the tests stand in for the locked ones: each is linked; setuptools, which a later step takes away,
    is copied over the one that Python brings."""
    for old in [*place.glob("setuptools*"), *place.glob("pkg_resources")]:
        shutil.rmtree(old)
    for item in Path(setuptools.__file__).parents[1].iterdir():
        if item.name.startswith("setuptools"):
            shutil.copytree(item, place / item.name)
        elif not (item.name.startswith(("esb", "__editable__", "pip")) or (place / item.name).exists()):
            (place / item.name).symlink_to(item)


def _copied(given: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if given.is_dir():
        shutil.copytree(given, place, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(given, place)


def _bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_the_image_s_own_commands_are_commands() -> None:
    assert parsed(json.loads(last("CMD"))).params["file"] == Path("/bus/routes.toml")
    check = parsed(json.loads(last("HEALTHCHECK").partition("CMD ")[2]))
    assert check.params["running"] is True


# The compose file


def test_no_service_builds_from_anything_but_the_dockerfile() -> None:
    assert {SERVICES[name].get("build") for name in OURS} == {"."}
    assert "dockerfile_inline" not in (ROOT / "docker-compose.yml").read_text()
    assert [name for name in SERVICES if name not in OURS and "build" in SERVICES[name]] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_s_image_is_pinned_its_ports_are_of_this_machine_and_its_folders_are_there(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].partition(":")[2]
    assert tag and tag != "latest"
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port
    for volume in service.get("volumes", []):
        given = volume.split(":")[0]
        assert (ROOT / given).exists() if given.startswith(".") else given in COMPOSE["volumes"], volume
    assert service["healthcheck"]["test"][0] == "CMD"
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
    for other in service.get("depends_on", {}):
        assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", []))


def test_no_two_services_take_one_port_and_every_volume_has_one_user() -> None:
    ports = [port.rpartition(":")[0] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == len(set(ports))
    used = [
        item.split(":")[0] for service in SERVICES.values() for item in service.get("volumes", []) if item[0] != "."
    ]
    assert sorted(used) == sorted(COMPOSE["volumes"])


@pytest.mark.parametrize("name", OURS)
def test_what_runs_our_image_can_do_nothing_but_its_work(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "user" not in service


@pytest.mark.parametrize("name", BUSES)
def test_a_bus_of_the_compose_file_fits_the_command_line_its_table_and_the_image(name: str) -> None:
    service = SERVICES[name]
    file = parsed(service["command"]).params["file"]
    check = parsed(service["healthcheck"]["test"][1:])
    assert (check.params["file"], check.params["running"]) == (file, True)
    mounted = {item.split(":")[1]: item.split(":")[0] for item in service["volumes"]}
    table = load(ROOT / mounted[str(file)], load_plugins())
    assert f"{file.parent / table.bus.data}" in mounted
    assert f"{file.parent / table.bus.data}" == last("VOLUME")
    inside = {port.rpartition(":")[2] for port in service["ports"]}
    assert table.bus.http == f"0.0.0.0:{inside.pop()}" and not inside
    assert str(table.bus.admin).rpartition(":")[0] == service["hostname"]
    read = {where.removeprefix("file:/run/secrets/") for where in table.secrets.values()}
    assert read == set(service["secrets"])
    assert secs(service["stop_grace_period"]) > float(table.bus.drain)


def test_the_targets_of_the_table_are_services_of_the_file() -> None:
    table = load(ROOT / "deploy" / "compose" / "routes.toml", load_plugins())
    for spec in table.targets.values():
        host, port = re.search(r"http://([\w-]+):(\d+)/", str(spec.options)).groups()  # type: ignore[union-attr]
        assert port in SERVICES[host]["command"]
        assert f"127.0.0.1:{port}/" in SERVICES[host]["healthcheck"]["test"][-1]
        assert "./examples/demo/targets.py:/bus/targets.py:ro" in SERVICES[host]["volumes"]


def test_only_the_embedded_bus_starts_by_itself_and_no_password_stands_in_the_file() -> None:
    default = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert default == {"esb", "shop", "ledger"}
    assert "--broker" not in SERVICES["esb"]["command"]
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASS|COOKIE|KEY", name):
                assert re.fullmatch(r"\$\{\w+:-\}", value), name
    nodes = re.findall(r"= rabbit@([\w-]+)", (ROOT / "deploy" / "rabbitmq" / "cluster.conf").read_text())
    assert nodes == [name for name, service in SERVICES.items() if service.get("profiles") == ["rabbit-cluster"]]
    assert nodes == [SERVICES[name]["hostname"] for name in nodes]
    assert len({SERVICES[name]["environment"]["RABBITMQ_ERLANG_COOKIE"] for name in nodes}) == 1


def test_the_demo_s_targets_take_orders_at_the_host_that_is_named() -> None:
    port = free_port()
    script = ROOT / "examples" / "demo" / "targets.py"
    with subprocess.Popen([sys.executable, str(script), str(port), "0", "127.0.0.1"]) as process:
        try:
            probe = SERVICES["shop"]["healthcheck"]["test"][-1].replace("9001", str(port))
            for _ in range(100):
                if subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0:
                    return
            raise AssertionError("the health check never passed")
        finally:
            process.kill()


# Prometheus


def test_prometheus_asks_the_control_api_by_the_name_and_key_that_it_answers_to() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert [name for name in config["rule_files"] if not (ROOT / "deploy" / "prometheus" / name).exists()] == []
    (job,) = config["scrape_configs"]
    table = load(ROOT / "deploy" / "compose" / "routes.toml", load_plugins())
    assert job["static_configs"] == [{"targets": [table.bus.admin]}]
    secret = Path(job["authorization"]["credentials_file"]).name
    assert secret in SERVICES["prometheus"]["secrets"]
    assert table.secrets[str(table.bus.admin_key).removeprefix("secret:")] == f"file:/run/secrets/{secret}"


def exported() -> dict[str, set[str]]:
    """Every series of /metrics with its labels."""
    metrics = Metrics()
    metrics.accepted("r", 1.0)
    metrics.failed("r", "t", "transient")
    metrics.delivered("r", "t", 1.0, 1.0)
    target = {"name": "t", "waiting": 1, "dead": 1, "parked": 1, "oldest": None}
    problem = {"component": "store", "state": "down", "reason": "full"}
    text = metrics.text(
        {"targets": [target], "routes": [], "problems": [problem], "log_lines_lost": 0, "disk_free": 1}
    ).decode()
    found = re.findall(r"^(esb_\w+)(?:\{(.*)\})? ", text, re.MULTILINE)
    return {name: set(re.findall(r'(\w+)="', labels)) for name, labels in found}


def test_alerts_use_figures_and_labels_that_exist() -> None:
    known = exported()
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "esb.rules.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 7
    for rule in rules:
        used = re.findall(r"\besb_\w+", rule["expr"])
        assert used or "up{" in rule["expr"], rule["alert"]
        assert set(used) <= known.keys(), rule["alert"]
        labels = set().union(*(known[name] for name in used)) | {"job"}
        for said in re.findall(r"\{(\w+)=", rule["expr"]) + re.findall(r"by \((\w+)\)", rule["expr"]):
            assert said in labels, rule["alert"]
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= labels
        assert rule["labels"]["severity"] in ("page", "warn")
        for command in re.findall(r"esb (\w+)", rule["annotations"]["do"]):
            assert esb.get_command(click.Context(esb), command), rule["alert"]


def test_a_problem_that_is_over_is_a_figure_no_more() -> None:
    metrics = Metrics()
    status = {"targets": [], "routes": [], "problems": [{"component": "store"}], "log_lines_lost": 0, "disk_free": 1}
    assert b'esb_problem{component="store"} 1.0' in metrics.text(status)
    assert b"component=" not in metrics.text({**status, "problems": []})


# systemd


def unit() -> dict[str, list[str]]:
    """The directives of the unit, each with what it is set to."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "deploy" / "esb.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_starts_what_the_command_line_knows_and_waits_longer_than_the_bus() -> None:
    told = unit()
    (start,) = told["ExecStart"]
    path, *words = shlex.split(start)
    assert path == "/opt/esb/bin/esb"
    assert parsed(["esb", *words]).params["file"] == Path("/etc/esb/routes.toml")
    drain = load(ROOT / "routes.toml", load_plugins()).bus.drain
    assert float(told["TimeoutStopSec"][0]) > float(drain)
    assert (told["Type"], told["Restart"], told["StateDirectory"]) == (["exec"], ["always"], ["esb"])
    for name in ("NoNewPrivileges", "PrivateTmp", "MemoryDenyWriteExecute", "ProtectHome"):
        assert told[name] == ["yes"]
    assert told["ProtectSystem"] == ["strict"]
    assert told["RestrictAddressFamilies"] == ["AF_INET AF_INET6 AF_UNIX"]
    assert told["SystemCallFilter"][0] == "@system-service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_the_unit_has_no_fault_that_systemd_sees(tmp_path: Path) -> None:
    """Its program is put where this machine has one."""
    text = (
        (ROOT / "deploy" / "esb.service")
        .read_text()
        .replace("/opt/esb/bin/esb", str(Path(sys.executable).parent / "esb"))
    )
    (tmp_path / "esb.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "esb.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "esb.service" in line]) == (0, [])


PR_SET_MDWE = 65


async def test_the_bus_runs_where_memory_is_never_both_written_and_executed_with_a_credential(tmp_path: Path) -> None:
    """As MemoryDenyWriteExecute and LoadCredential have it: the kernel's own switch, which children inherit."""
    port = free_port()
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "admin").write_text("k" * 32)
    (tmp_path / "routes.toml").write_text(
        f'esb = 1\n[bus]\nadmin = "127.0.0.1:{port}"\nadmin_key = "secret:admin"\n[secrets]\nadmin = "credential:admin"\n'
        '[defaults]\nowner = "tests@example.org"\n[target.out]\nfile = "out"\nname = "{message.id}"\n'
        '[route.orders]\nfrom = { memory = "in" }\ndo = [{ read = "xml" }, { write = "json" }]\nto = ["out"]\n'
    )
    if ctypes.CDLL(None).prctl(PR_SET_MDWE + 1, 0, 0, 0, 0) < 0:
        pytest.skip("this kernel has no such switch")
    script = (
        f"import ctypes, sys; assert ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0) == 0\n"
        "from esb.cli import main; sys.argv = ['esb', 'run', '-f', 'routes.toml']; main()"
    )
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    house = House(tmp_path, [sys.executable, "-c", script], env=env)
    house.start()
    try:
        typed = [str(Path(sys.executable).parent / "esb")]
        for _ in range(100):
            done = await asyncio.to_thread(_typed, [*typed, "status", "--running"], tmp_path, env)
            if done.returncode == 0:
                break
        assert done.returncode == 0, house.tail()
        (tmp_path / "order.xml").write_text("<a>1</a>")
        sent = await asyncio.to_thread(_typed, [*typed, "send", "orders", "order.xml"], tmp_path, env)
        assert sent.returncode == 0, sent.stderr
    finally:
        assert house.stop() == 0
    stopped = await asyncio.to_thread(_typed, [*typed, "status", "--running"], tmp_path, env)
    assert stopped.returncode == 3, "a health check does not take the store's word for the bus"


def _typed(words: list[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False)


# Without a network


def test_the_wheelhouse_is_made_and_installed_as_the_page_says() -> None:
    """`make wheelhouse` gets what the lock has, hashes checked, and esb's wheel; the page's lines install just that."""
    done = subprocess.run(
        ["make", "-n", "--no-print-directory", "-o", ".venv/.run", "wheelhouse"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    clean, download, wheel, lock = done.stdout.splitlines()
    assert clean == "rm -rf dist/wheelhouse"
    assert {"download", "--require-hashes", ":all:", ".ci/requirements.lock", "dist/wheelhouse"} <= set(
        download.split()
    )
    assert {"wheel", "--no-deps", "dist/wheelhouse"} <= set(wheel.split())
    assert lock == "cp .ci/requirements.lock dist/wheelhouse/"
    made, typed = re.findall(r"```text\n(.*?)```", (ROOT / "docs" / "install-offline.md").read_text(), re.DOTALL)
    assert made.split() == ["make", "wheelhouse"]
    _, locked, own = typed.splitlines()
    assert "--no-index --find-links wheelhouse --require-hashes -r wheelhouse/requirements.lock" in locked
    assert "--no-index --no-deps wheelhouse/esb-*.whl" in own


def test_no_file_that_deploys_names_a_package_index() -> None:
    names = ["Dockerfile", "docker-compose.yml", "Makefile", ".ci/venv", "docs/install-offline.md"]
    said = "".join((ROOT / name).read_text() for name in names)
    assert re.findall(r"index-url|https:", said) == []
