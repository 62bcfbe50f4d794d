"""What one plugin offers, asked once and held to the rules; what breaks one is raised with the plugin's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pluggy
from msgspec import Struct

from esb.errors import ConfigError, Problem, describe
from esb.expressions.spelling import closest
from esb.ports import RESERVED, Component, Kind

API = 1
HOOKS: Mapping[str, Kind] = {
    "esb_codecs": "codec",
    "esb_steps": "step",
    "esb_sources": "source",
    "esb_targets": "target",
}
FUNCTIONS = "esb_functions"


class Offer(Struct):
    """What a plugin brings: its components and functions. `api` is the plugin API that its components say."""

    components: dict[tuple[Kind, str], Component[Any]] = {}
    functions: dict[str, Callable[..., Any]] = {}
    api: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """`target fax`, `function xpath`."""
        return (*(f"{kind} {name}" for kind, name in self.components), *(f"function {name}" for name in self.functions))


def check_hooks(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """A misspelt hook passes silently in pluggy; here it is refused by name."""
    known = {*HOOKS, FUNCTIONS}
    for attribute in dir(plugin):
        if attribute.startswith("esb_") and attribute not in known and callable(getattr(plugin, attribute)):
            hint = f"{closest(attribute, known)} hooks are {', '.join(sorted(known))}".strip()
            raise ConfigError(Problem("E134", f"{name}: there is no hook named {attribute}", hint))
    manager.check_pending()


def ask(manager: pluggy.PluginManager, plugin: str, offer: Offer) -> None:
    """Fills the offer from the plugin's hooks; raises ConfigError at the first thing that breaks a rule."""
    for hook, kind in HOOKS.items():
        for component in _asked(manager, hook, plugin):
            if isinstance(component, Component):
                offer.api = component.api
            _admit(component, kind, plugin)
            offer.components[(kind, component.name)] = component
    for functions in _asked(manager, FUNCTIONS, plugin, each=False):
        offer.functions.update(functions)


def _asked(manager: pluggy.PluginManager, hook: str, plugin: str, *, each: bool = True) -> list[Any]:
    """What the plugin's hook gives, `each` item of it; raises ConfigError when the hook fails."""
    given: list[Any] = []
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if implementation.plugin_name != plugin:
            continue
        try:
            offered: Any = implementation.function()
            given += list(offered) if each else [dict(offered)]
        except (Exception, SystemExit) as error:
            said = f"{plugin}: its {hook} failed: {type(error).__name__}: {describe(error)}"
            raise ConfigError(Problem("E135", said, "mend it; esb plugin check FILE shows it")) from error
    return given


def _admit(component: Component[Any], kind: Kind, plugin: str) -> None:
    if not isinstance(component, Component):
        raise ConfigError(
            Problem("E135", f"{plugin} offers a {type(component).__name__} as a {kind}", "return Components")
        )
    if component.kind != kind:
        raise ConfigError(Problem("E135", f'{plugin}: "{component.name}" says it is a {component.kind}, not a {kind}'))
    if component.api != API:
        raise ConfigError(
            Problem(
                "E136", f'{plugin}: "{component.name}" is written for plugin API {component.api}; this esb has {API}'
            )
        )
    fields = set(component.options.__struct_encode_fields__)
    if component.main not in component.options.__struct_fields__:
        raise ConfigError(
            Problem("E135", f'{plugin}: "{component.name}" has no option named by main "{component.main}"')
        )
    taken = ({component.name} | (fields - {component.main})) & RESERVED[kind]
    if taken:
        raise ConfigError(
            Problem("E137", f'{plugin}: "{component.name}" uses {sorted(taken)}, which belongs to the bus', "rename it")
        )
