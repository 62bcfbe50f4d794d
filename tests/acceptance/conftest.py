"""What acceptance tests share: the built wheel, installed once outside the source tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the wheel and nothing of the source tree. It sees the locked packages of this
    environment through a folder of links, without the editable esb."""
    room = tmp_path_factory.mktemp("installed")
    source, dist, packages = room / "source", room / "dist", room / "packages"
    built = shutil.ignore_patterns(".*", "build", "dist", "tests", "*.egg-info", "__pycache__", "var", "demo")
    shutil.copytree(ROOT, source, ignore=built)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(dist), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    shutil.rmtree(source)
    packages.mkdir()
    for item in Path(sysconfig.get_path("purelib")).iterdir():
        if not item.name.startswith(("esb", "__editable__")) and item.suffix != ".pth":
            (packages / item.name).symlink_to(item)
    python = room / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(room / "venv")], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-index", *map(str, dist.glob("esb-*.whl"))], check=True)
    place = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(place, check=True, capture_output=True, text=True).stdout.strip()
    (Path(site) / "locked.pth").write_text(f"{packages}\n")
    return python.parent
