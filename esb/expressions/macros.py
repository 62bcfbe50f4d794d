"""Macros: calls that are told by their name and number of arguments, and bind variables or look before they fail."""

from __future__ import annotations

from typing import Any, Final, Protocol

from esb.expressions.lexer import Token, fault
from esb.expressions.syntax import Call, ExpressionProblems, Macro, Name, Select

LOOPS: Final = {
    "all": ((1, 1), (2, 1)),
    "exists": ((1, 1), (2, 1)),
    "exists_one": ((1, 1), (2, 1)),
    "existsOne": ((1, 1), (2, 1)),
    "filter": ((1, 1),),
    "map": ((1, 1), (1, 2)),
    "transformList": ((2, 1), (2, 2)),
    "transformMap": ((2, 1), (2, 2)),
    "optMap": ((1, 1),),
    "optFlatMap": ((1, 1),),
}
"""How many variables and how many expressions each takes."""
_USE: Final = {
    "all": "list.all(x, x > 0)",
    "exists": "list.exists(x, x > 0)",
    "exists_one": "list.exists_one(x, x > 0)",
    "existsOne": "list.existsOne(x, x > 0)",
    "filter": "list.filter(x, x > 0)",
    "map": "list.map(x, x.field)",
    "transformList": "list.transformList(i, x, x.field)",
    "transformMap": "map.transformMap(k, v, v.field)",
    "optMap": "a.?b.optMap(x, x.field)",
    "optFlatMap": "a.?b.optFlatMap(x, x.?field)",
}


class Maker(Protocol):
    """What macros need of the parser."""

    text: str

    def make(self, kind: Any, start: int, end: int, **fields: Any) -> Any: ...


def expand_method(parser: Maker, operand: Any, token: Token, arguments: tuple[Any, ...], end: int) -> Any:
    """`operand.name(arguments)` as a macro or a call."""
    name = token.text
    if name in LOOPS:
        return _loop(parser, operand, token, arguments, end)
    if name == "bind" and isinstance(operand, Name) and operand.name == "cel" and len(arguments) == 3:
        variable = _variable(parser, token, arguments[0], "cel.bind(x, 1 + 1, x * x)")
        given = {"operand": arguments[1], "variables": (variable,), "arguments": arguments[2:]}
        return parser.make(Macro, operand.start, end, name="bind", **given)
    return parser.make(Call, operand.start, end, name=name, operand=operand, arguments=arguments)


def _loop(parser: Maker, operand: Any, token: Token, arguments: tuple[Any, ...], end: int) -> Any:
    name = token.text
    forms = [form for form in LOOPS[name] if sum(form) == len(arguments)]
    if not forms:
        raise _misused(parser, token, _USE[name])
    names = tuple(_variable(parser, token, argument, _USE[name]) for argument in arguments[: forms[0][0]])
    if len(set(names)) < len(names):
        raise _misused(parser, token, _USE[name])
    given = {"operand": operand, "variables": names, "arguments": arguments[len(names) :]}
    plain = "exists_one" if name == "existsOne" else name
    return parser.make(Macro, operand.start, end, name=plain, **given)


def expand_call(parser: Maker, token: Token, arguments: tuple[Any, ...], end: int) -> Any:
    """`name(arguments)` as a macro or a call."""
    name = token.text
    if name == "has":
        if len(arguments) != 1 or not isinstance(arguments[0], Select):
            raise _misused(parser, token, "has(body.note)")
        return parser.make(Macro, token.start, end, name="has", operand=arguments[0])
    if name == "default" and len(arguments) == 2:
        return parser.make(Macro, token.start, end, name="default", operand=arguments[0], arguments=arguments[1:])
    if name == "optional" and len(arguments) == 1:
        return parser.make(Macro, token.start, end, name="optional", operand=arguments[0])
    return parser.make(Call, token.start, end, name=name, arguments=arguments)


def _variable(parser: Maker, token: Token, node: Any, use: str) -> str:
    if isinstance(node, Name) and not node.rooted:
        return node.name
    raise _misused(parser, token, use)


def _misused(parser: Maker, token: Token, use: str) -> ExpressionProblems:
    return fault(parser.text, token.start, token.end, f"{token.text} is not written like this", f"write {use}", "E223")
