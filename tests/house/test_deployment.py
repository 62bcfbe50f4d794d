"""Containers, the unit of systemd and the alert rules agree with the command line and with what is exported."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from esb.admin.metrics import Metrics
from esb.cli import esb

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = (ROOT / "deploy" / "esb.service").read_text()
OURS = [name for name, service in SERVICES.items() if service.get("build")]


def understood(words: list[str]) -> None:
    """The command line takes these words: command, options and values."""
    assert words[0] == "esb", words
    command = esb.get_command(click.Context(esb), words[1])
    assert command is not None, words
    command.make_context(words[1], words[2:], resilient_parsing=False)


def instructions(word: str) -> list[str]:
    """What stands after an instruction of the Dockerfile."""
    return re.findall(rf"^{word} (.+)$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_what_the_command_line_takes(name: str) -> None:
    service = SERVICES[name]
    if service["command"][0] == "esb":
        understood([re.sub(r"\$\{.*?\}", "x", word) for word in service["command"]])
        check = service["healthcheck"]["test"]
        assert check[0] == "CMD"
        understood(check[1:])
        seconds = int(service["stop_grace_period"].removesuffix("s"))
        assert seconds > 30, "longer than the drain of the bus"
    else:
        file = service["command"][1].removeprefix("/demo/")
        assert (ROOT / "examples" / "demo" / file).exists()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_the_loopback_and_images_are_pinned_and_healthy(name: str) -> None:
    service = SERVICES[name]
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    assert re.search(r":\S*\d|:local$", service["image"]), "a tag that does not move"
    assert "healthcheck" in service or service["command"][0] == "python"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./"):
            assert (ROOT / source).exists() or source == "./examples/drop", source
        else:
            assert source in COMPOSE["volumes"], source


def test_no_password_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            assert not re.search("PASS|KEY|COOKIE", key) or str(value).startswith("${"), key


def test_the_image_is_run_by_a_user_whose_id_the_folders_have() -> None:
    assert instructions("USER") == ["10001"]
    assert any("--uid 10001" in line for line in instructions("RUN"))
    (command,) = re.findall(r"^CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    understood(yaml.safe_load(command))
    (health,) = re.findall(r"^HEALTHCHECK .*CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    understood(yaml.safe_load(health))
    port = SERVICES["esb"]["ports"][0].rpartition(":")[2]
    assert instructions("EXPOSE") == [port]


def test_the_steps_of_the_image_that_need_no_container_run(tmp_path: Path) -> None:
    """The locked dependencies are those of this environment; the rest is done as it stands."""
    steps = [line for line in instructions("RUN") if "useradd" not in line]
    assert [shlex.split(step)[0] for step in steps] == ["python", "/opt/esb/bin/pip", "/opt/esb/bin/pip"]
    lock = re.search(r"--require-hashes -r (\S+)", steps[1])
    assert lock is not None
    assert (ROOT / lock[1]).exists()
    place = tmp_path / "esb"
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(place)], check=True)
    site = next(path for path in sys.path if path.endswith("site-packages"))
    (next(place.glob("lib/python*/site-packages")) / "locked.pth").write_text(site)
    source = tmp_path / "src"
    ignore = shutil.ignore_patterns(*(ROOT / ".dockerignore").read_text().split())
    shutil.copytree(ROOT, source, ignore=lambda folder, names: {*ignore(folder, names), *({".git"} & set(names))})
    words = [str(place / "bin" / "python"), "-m", *shlex.split(steps[2].replace("/opt/esb/bin/", ""))]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = subprocess.run([str(place / "bin" / "esb"), "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert said.stdout.startswith("esb")


def test_the_unit_runs_what_the_command_line_takes() -> None:
    settings = dict(line.split("=", 1) for line in UNIT.splitlines() if "=" in line and not line.startswith("#"))
    words = shlex.split(settings["ExecStart"])
    assert words[0].endswith("/esb")
    understood(["esb", *words[1:]])
    assert int(settings["TimeoutStopSec"]) > 30
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["ProtectSystem"] == "strict"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        known = (line.split("=")[0] for line in UNIT.splitlines() if "=" in line and not line.startswith("#"))
        assert all(re.fullmatch("[A-Z][A-Za-z]+", name) for name in known)
        return
    unit = tmp_path / "esb.service"
    unit.write_text(UNIT.replace("/opt/esb/bin/esb", "/bin/true"))
    done = subprocess.run([verify, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "Unknown" not in done.stderr, done.stderr
    assert "Failed to parse" not in done.stderr, done.stderr


def test_alerts_ask_only_for_figures_that_there_are() -> None:
    names = set(
        re.findall(
            r"^# TYPE (\S+)", Metrics().text({"targets": [], "routes": [], "log_lines_lost": 0}).decode(), re.MULTILINE
        )
    )
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "esb.rules.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        for asked in re.findall(r"\besb_\w+", rule["expr"]):
            assert {asked, re.sub("_(total|sum|count|bucket)$", "", asked)} & names, asked
        assert rule["annotations"]["summary"]
