"""Where the table is found, and the last one that ran."""

from __future__ import annotations

from pathlib import Path

import pytest
from table_of_tests import BEGIN, registry, written

from esb.errors import ConfigError
from esb.table import places
from esb.table.load import load

TABLE = BEGIN + '[bus]\ndata = "store"\n[route.orders]\nfrom = { http = "POST /orders" }\nto = ["erp"]\n'


def test_the_table_is_the_one_that_is_named_else_that_of_the_environment_else_the_one_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "SYSTEM_WIDE", tmp_path / "etc.toml")
    for name in ("named.toml", "environment.toml", "routes.toml", "etc.toml"):
        (tmp_path / name).write_text("esb = 1\n")
    environ = {"ESB_TABLE": "environment.toml"}
    assert places.find_table(Path("named.toml"), environ) == Path("named.toml")
    assert places.find_table(None, environ) == Path("environment.toml")
    assert places.find_table(None, {}) == Path("routes.toml")
    (tmp_path / "routes.toml").unlink()
    assert places.find_table(None, {}) == tmp_path / "etc.toml"


def test_no_table_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "SYSTEM_WIDE", tmp_path / "etc.toml")
    with pytest.raises(ConfigError, match="E103 there is no routes.toml here"):
        places.find_table(None, {})
    with pytest.raises(ConfigError, match="there is no table nowhere.toml; -f names it"):
        places.find_table(Path("nowhere.toml"), {})
    with pytest.raises(ConfigError, match="ESB_TABLE names it"):
        places.find_table(None, {"ESB_TABLE": "nowhere.toml"})


def test_the_last_good_table_comes_back_with_its_includes_and_contracts(tmp_path: Path) -> None:
    main = "include = ['routes.d/*.toml']\n" + TABLE
    file = written(tmp_path, main, routes_d__more='[route.more]\nfrom = { http = "POST /m" }\nto = "erp"\n')
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "order@1.json").write_text("{}")
    good = load(file, registry())
    places.keep_last_good(good)
    file.write_text('esb = 1\n[bus]\ndata = "store"\nthis is no TOML\n')
    (tmp_path / "contracts" / "order@1.json").write_text("broken")
    kept = places.last_good(file)
    assert kept is not None
    again = load(file, registry(), text_overrides=kept.texts, kept=kept.folder)
    assert again.hash == good.hash
    assert set(again.routes) == {"orders", "more"}
    assert again.folder == tmp_path
    assert again.data == tmp_path / "store"
    assert again.kept is not None
    assert (again.kept / "contracts" / "order@1.json").read_text() == "{}"


def test_an_include_from_elsewhere_is_kept_too(tmp_path: Path) -> None:
    elsewhere = tmp_path / "shared" / "more.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text('[route.more]\nfrom = { http = "POST /m" }\nto = "erp"\n')
    (tmp_path / "here").mkdir()
    file = written(tmp_path / "here", f"include = ['{elsewhere}']\n" + TABLE)
    good = load(file, registry())
    places.keep_last_good(good)
    elsewhere.unlink()
    kept = places.last_good(file)
    assert kept is not None
    assert load(file, registry(), text_overrides=kept.texts).hash == good.hash


def test_a_table_that_never_ran_has_no_last_good_one(tmp_path: Path) -> None:
    assert places.last_good(written(tmp_path, TABLE)) is None


def test_the_store_s_folder_is_read_from_a_broken_table_too(tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    assert places.data_folder(file) == tmp_path / "var"
    file.write_text("esb = 1\n[bus]\n  data = '/srv/esb'\n[route.x\n")
    assert places.data_folder(file) == Path("/srv/esb")


def test_the_plugins_folder_is_known_before_the_table_is_read(tmp_path: Path) -> None:
    file = written(tmp_path, 'esb = 1\n[bus]\nplugins = "adapters"\n')
    assert places.plugins_folder(file) == tmp_path / "adapters"
    file.write_text("no TOML")
    assert places.plugins_folder(file) is None
