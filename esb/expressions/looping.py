"""Macros as Python: loops over lists and maps, and what looks before it fails."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from esb.expressions.syntax import Macro, Name, Select


class Compiler(Protocol):
    """What macros need of the compiler."""

    loops: int

    def atom(self, node: Any) -> str: ...

    def value(self, node: Any) -> str: ...

    def condition(self, node: Any) -> str: ...

    def line(self, text: str, node: Any = None, base: str = "") -> None: ...

    def new(self, letter: str = "t") -> str: ...

    def set(self, text: str, node: Any, base: str = "") -> str: ...

    def meter(self) -> str: ...

    def throw(self, error: str) -> None: ...

    def indented(self, text: str, *, block: bool = False) -> AbstractContextManager[None]: ...

    def guarded(self) -> AbstractContextManager[list[Any]]: ...

    def bound(self, names: Mapping[str, str]) -> AbstractContextManager[None]: ...


def loop(compiler: Compiler, node: Macro) -> str:
    """The macro's value."""
    match node.name:
        case "has":
            return _has(compiler, node)
        case "default":
            return _default(compiler, node)
        case "optional":
            return _optional(compiler, node)
        case "bind":
            return _bind(compiler, node)
        case "optMap" | "optFlatMap":
            return _opt_map(compiler, node)
        case "all" | "exists":
            return _searched(compiler, node)
        case _:
            return _collected(compiler, node)


def _has(compiler: Compiler, node: Macro) -> str:
    operand = compiler.atom(node.operand.operand)
    field = repr(node.operand.field)
    return compiler.set(
        f"{field} in {operand} if type({operand}) is dict else has_field({operand}, {field})", node.operand, operand
    )


def _looked(compiler: Compiler, node: Any) -> str:
    """What is looked for; a header that is absent is missing here, though it reads as an empty text."""
    if isinstance(node, Select) and isinstance(node.operand, Name) and node.type == "string" and not node.optional:
        return compiler.set(f"s[{node.operand.name!r}].get({node.field!r})", node)
    return compiler.value(node)


def _default(compiler: Compiler, node: Macro) -> str:
    result = compiler.new("r")
    with compiler.guarded() as fails:
        found = _looked(compiler, node.operand)
        compiler.line(f"{result} = {f'opened({found})' if node.operand.type in ('dyn', 'optional_type') else found}")
    if fails:
        with compiler.indented("except Exception as e:"):
            compiler.line("missing(e, s)", node.operand)
            compiler.line(f"{result} = None")
    with compiler.indented(f"if {result} is None:"):
        compiler.line(f"{result} = {compiler.value(node.arguments[0])}")
    return result


def _optional(compiler: Compiler, node: Macro) -> str:
    result = compiler.new("r")
    with compiler.guarded() as fails:
        found = _looked(compiler, node.operand)
        compiler.line(f"{result} = closed({found})")
        if isinstance(node.operand, Select) and node.operand.type == "string":
            with compiler.indented(f"if {result}.value is None:"):
                compiler.line(f"{result} = NONE")
    if fails:
        with compiler.indented("except Exception as e:"):
            compiler.line("missing(e, s)", node.operand)
            compiler.line(f"{result} = NONE")
    return result


def _bind(compiler: Compiler, node: Macro) -> str:
    variable = compiler.new("v")
    compiler.line(f"{variable} = {compiler.value(node.operand)}")
    with compiler.bound({node.variables[0]: variable}):
        return compiler.value(node.arguments[0])


def _opt_map(compiler: Compiler, node: Macro) -> str:
    result, variable = compiler.new("r"), compiler.new("v")
    operand = compiler.set(f"need_optional({compiler.value(node.operand)})", node.operand)
    with compiler.indented(f"if {operand}.has_value:"):
        compiler.line(f"{variable} = {operand}.value")
        with compiler.bound({node.variables[0]: variable}):
            value = compiler.value(node.arguments[0])
        made = f"Optional(True, {value})" if node.name == "optMap" else f"need_optional({value})"
        compiler.line(f"{result} = {made}", node.arguments[0])
    with compiler.indented("else:"):
        compiler.line(f"{result} = NONE")
    return result


def _opened(compiler: Compiler, node: Macro) -> tuple[str, dict[str, str]]:
    """The head of the loop and the names of its variables."""
    names = {variable: compiler.new("v") for variable in node.variables}
    gone_over = "items" if len(names) == 1 else "pairs"
    items = compiler.set(f"{gone_over}({compiler.value(node.operand)}, {compiler.meter()})", node.operand)
    return f"for {', '.join(names.values())} in {items}:", names


def _searched(compiler: Compiler, node: Macro) -> str:
    """`all` and `exists`: they stop at the item that decides, and an error counts only where none does."""
    result, error, held = compiler.new("r"), compiler.new("x"), compiler.new("r")
    every = node.name == "all"
    head, names = _opened(compiler, node)
    compiler.line(f"{result} = {every}")
    compiler.line(f"{error} = None")
    compiler.loops += 1
    with compiler.indented(head, block=True), compiler.bound(names):
        with compiler.guarded() as fails:
            compiler.line(f"{held} = {compiler.condition(node.arguments[0])}")
        if fails:
            with compiler.indented("except Exception as e:"):
                with compiler.indented(f"if {error} is None:"):
                    compiler.line(f"{error} = explained(e, s)")
                compiler.line("continue")
        with compiler.indented(f"if {'not ' if every else ''}{held}:"):
            compiler.line(f"{result} = {not every}")
            compiler.line("break")
    compiler.loops -= 1
    if fails:
        with compiler.indented(f"if {error} is not None:"):
            with compiler.indented(f"if {result if every else f'not {result}'}:"):
                compiler.throw(error)
            compiler.line(f"{error} = None")
    return result


def _collected(compiler: Compiler, node: Macro) -> str:
    """`map`, `filter`, `exists_one`, `transformList`, `transformMap`."""
    result = compiler.new("r")
    head, names = _opened(compiler, node)
    start = {"exists_one": "0", "transformMap": "{}"}.get(node.name, "[]")
    compiler.line(f"{result} = {start}")
    compiler.loops += 1
    with compiler.indented(head, block=True), compiler.bound(names):
        if node.name in ("filter", "exists_one") or len(node.arguments) == 2:
            with compiler.indented(f"if not {compiler.condition(node.arguments[0])}:"):
                compiler.line("continue")
        _take(compiler, node, result, names)
    compiler.loops -= 1
    return f"({result} == 1)" if node.name == "exists_one" else result


def _take(compiler: Compiler, node: Macro, result: str, names: dict[str, str]) -> None:
    first = next(iter(names.values()))
    match node.name:
        case "filter":
            compiler.line(f"{result}.append({first})")
        case "exists_one":
            compiler.line(f"{result} += 1")
        case "transformMap":
            compiler.line(f"{result}[{first}] = {compiler.value(node.arguments[-1])}")
        case _:
            compiler.line(f"{result}.append({compiler.value(node.arguments[-1])})")
