"""Tokens into a tree: recursive descent after the grammar of cel-spec, with a bound on depth."""

from __future__ import annotations

from typing import Any, Final

from esb.expressions.lexer import Token, fault, tokens
from esb.expressions.syntax import (
    Call,
    ExpressionProblems,
    Index,
    ListOf,
    Literal_,
    Logic,
    Macro,
    MapOf,
    Name,
    Select,
    Ternary,
)
from esb.expressions.values import INT_MAX, Uint

DEPTH: Final = 100
"""How deep parentheses, lists and calls may stand in each other."""
_RELATIONS: Final = {"==", "!=", "<", "<=", ">", ">=", "in"}
_WORDS: Final = {"and": "&&", "or": "||", "not": "!"}
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_RESERVED: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "void",
        "while",
        "in",
    ]
)
_LOOPS: Final = {"all": 2, "exists": 2, "exists_one": 2, "existsOne": 2, "map": 2, "filter": 2}


def parse(text: str) -> Any:
    """The tree of an expression; raises ExpressionProblems with the first fault of its syntax."""
    parser = Parser(text, tokens(text))
    node = parser.expression()
    parser.finish()
    return node


class Parser:
    """One text being read."""

    def __init__(self, text: str, found: list[Token]) -> None:
        self._text = text
        self._tokens = found
        self._at = 0
        self._depth = 0

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _is(self, *operators: str) -> bool:
        token = self._now
        return (token.kind == "operator" or (token.kind == "name" and token.text == "in")) and token.text in operators

    def _take(self, operator: str) -> bool:
        if self._is(operator):
            self._at += 1
            return True
        return False

    def _expect(self, operator: str) -> Token:
        if not self._is(operator):
            raise self._unexpected(f"{operator} is missing")
        return self._next()

    def _unexpected(self, message: str = "") -> ExpressionProblems:
        token = self._now
        if token.kind == "name" and token.text in _WORDS:
            return fault(
                self._text, token.start, token.end, f'"{token.text}" is no operator', f"write {_WORDS[token.text]}"
            )
        shown = f'"{token.text}"' if token.text else "the end"
        return fault(self._text, token.start, token.end, message or f"{shown} is not expected here")

    def finish(self) -> None:
        if self._now.kind != "end":
            raise self._unexpected()

    def expression(self) -> Any:
        self._depth += 1
        if self._depth > DEPTH:
            raise fault(
                self._text, self._now.start, self._now.end, f"nested over {DEPTH} deep", "name parts of it in a map"
            )
        condition = self._or()
        if self._take("?"):
            yes = self._or()
            self._expect(":")
            no = self.expression()
            condition = Ternary(start=condition.start, end=no.end, condition=condition, yes=yes, no=no)
        self._depth -= 1
        return condition

    def _or(self) -> Any:
        parts = [self._and()]
        while self._take("||"):
            parts.append(self._and())
        return _balanced("||", parts)

    def _and(self) -> Any:
        parts = [self._relation()]
        while self._take("&&"):
            parts.append(self._relation())
        return _balanced("&&", parts)

    def _relation(self) -> Any:
        left = self._sum()
        while self._is(*_RELATIONS):
            operator = self._next()
            left = _binary(operator.text, left, self._sum())
        return left

    def _sum(self) -> Any:
        left = self._product()
        while self._is("+", "-"):
            operator = self._next()
            left = _binary(operator.text, left, self._product())
        return left

    def _product(self) -> Any:
        left = self._unary()
        while self._is("*", "/", "%"):
            operator = self._next()
            left = _binary(operator.text, left, self._unary())
        return left

    def _unary(self) -> Any:
        marks: list[Token] = []
        while self._is("!", "-"):
            marks.append(self._next())
            if len(marks) > DEPTH:
                raise fault(self._text, marks[0].start, marks[-1].end, f"over {DEPTH} signs in a row")
        node = self._number(marks) if marks and marks[-1].text == "-" else self._member()
        for mark in reversed(marks):
            function = "!_" if mark.text == "!" else "-_"
            node = Call(start=mark.start, end=node.end, function=function, arguments=(node,))
        return node

    def _number(self, marks: list[Token]) -> Any:
        """A minus right before digits belongs to them: -9223372036854775808 has no positive twin."""
        token = self._now
        if token.kind == "literal" and type(token.value) in (int, float) and not self._follows_dot():
            mark = marks.pop()
            self._next()
            digits = None if token.digits is None else f"-{token.digits}"
            return self._members(Literal_(start=mark.start, end=token.end, value=-token.value, digits=digits))
        return self._member()

    def _follows_dot(self) -> bool:
        following = self._tokens[self._at + 1]
        return following.kind == "operator" and following.text in (".", "[")

    def _member(self) -> Any:
        return self._members(self._primary())

    def _members(self, node: Any) -> Any:
        while True:
            if self._take("."):
                node = self._dotted(node, False)
            elif self._take(".?"):
                node = self._dotted(node, True)
            elif self._is("[", "[?"):
                optional = self._next().text == "[?"
                index = self.expression()
                end = self._expect("]").end
                node = Index(start=node.start, end=end, operand=node, index=index, optional=optional)
            elif self._is("{"):
                raise fault(
                    self._text, node.start, self._now.end, "messages of types are not offered", "write a map: {...}"
                )
            else:
                return node

    def _dotted(self, operand: Any, optional: bool) -> Any:
        token = self._next()
        if token.kind not in ("name", "quoted"):
            self._at -= 1
            raise self._unexpected("a field's name is missing")
        if optional or token.kind == "quoted" or not self._is("("):
            return Select(start=operand.start, end=token.end, operand=operand, field=token.text, optional=optional)
        arguments, end = self._arguments()
        return self._method(operand, token, arguments, end)

    def _arguments(self) -> tuple[tuple[Any, ...], int]:
        self._expect("(")
        items: list[Any] = []
        while not self._is(")"):
            items.append(self.expression())
            if not self._take(","):
                break
        return tuple(items), self._expect(")").end

    def _method(self, operand: Any, token: Token, arguments: tuple[Any, ...], end: int) -> Any:
        """Macros are told by name and number of arguments; everything else is a call."""
        name, count = token.text, len(arguments)
        place = {"start": operand.start, "end": end}
        if name in _LOOPS and (count == 2 or (name == "map" and count == 3)) and _is_variable(arguments[0]):
            return Macro(**place, name=name, operand=operand, variables=(arguments[0].name,), arguments=arguments[1:])
        if name in _LOOPS and count in (2, 3):
            bad = arguments[0]
            raise fault(self._text, bad.start, bad.end, f"{name} wants the name of a variable here")
        if name in ("optMap", "optFlatMap") and count == 2 and _is_variable(arguments[0]):
            return Macro(**place, name=name, operand=operand, variables=(arguments[0].name,), arguments=arguments[1:])
        return Call(**place, function=name, operand=operand, arguments=arguments)

    def _primary(self) -> Any:
        token = self._now
        if token.kind == "literal":
            self._next()
            if type(token.value) is int and token.value > INT_MAX:
                raise fault(
                    self._text, token.start, token.end, "a whole number over 64 bit", 'write decimal("...") for it'
                )
            return Literal_(start=token.start, end=token.end, value=token.value, digits=token.digits)
        if token.kind == "name" and token.text != "in":
            return self._named()
        if self._take("."):
            node = self._named()
            return Name(start=token.start, end=node.end, name=f".{node.name}") if isinstance(node, Name) else node
        if self._take("("):
            node = self.expression()
            self._expect(")")
            return node
        if self._is("[", "[?"):
            return self._list()
        if self._is("{"):
            return self._map()
        raise self._unexpected()

    def _named(self) -> Any:
        token = self._next()
        if token.kind != "name":
            self._at -= 1
            raise self._unexpected()
        if token.text in _CONSTANTS:
            return Literal_(start=token.start, end=token.end, value=_CONSTANTS[token.text])
        if token.text in _WORDS:
            self._at -= 1
            raise self._unexpected()
        if token.text in _RESERVED:
            raise fault(self._text, token.start, token.end, f'"{token.text}" is a reserved word')
        if not self._is("("):
            return Name(start=token.start, end=token.end, name=token.text)
        arguments, end = self._arguments()
        return self._function(token, arguments, end)

    def _function(self, token: Token, arguments: tuple[Any, ...], end: int) -> Any:
        name = token.text
        if name == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Select):
                raise fault(self._text, token.start, end, "has wants a field", "has(body.note)")
            return Macro(start=token.start, end=end, name="has", operand=arguments[0])
        if name == "default" and len(arguments) == 2:
            return Macro(start=token.start, end=end, name="default", operand=arguments[0], arguments=arguments[1:])
        if name == "optional" and len(arguments) == 1:
            return Macro(start=token.start, end=end, name="optional", operand=arguments[0])
        return Call(start=token.start, end=end, function=name, arguments=arguments)

    def _list(self) -> Any:
        opening = self._next()
        start = opening.start
        items: list[Any] = []
        optional: list[int] = [0] if opening.text == "[?" else []
        if optional:
            items.append(self.expression())
            if not self._take(","):
                return ListOf(start=start, end=self._expect("]").end, items=tuple(items), optional=(0,))
        while not self._is("]"):
            if self._take("?"):
                optional.append(len(items))
            items.append(self.expression())
            if not self._take(","):
                break
        return ListOf(start=start, end=self._expect("]").end, items=tuple(items), optional=tuple(optional))

    def _map(self) -> Any:
        start = self._expect("{").start
        entries: list[tuple[Any, Any]] = []
        optional: list[int] = []
        while not self._is("}"):
            if self._take("?"):
                optional.append(len(entries))
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression()))
            if not self._take(","):
                break
        return MapOf(start=start, end=self._expect("}").end, entries=tuple(entries), optional=tuple(optional))


def _is_variable(node: Any) -> bool:
    return isinstance(node, Name) and not node.name.startswith(".")


def _binary(operator: str, left: Any, right: Any) -> Call:
    return Call(start=left.start, end=right.end, function=f"_{operator}_", arguments=(left, right))


def _balanced(operator: Any, parts: list[Any]) -> Any:
    """A long chain of && or || as a flat tree, so that a thousand of them are not a thousand deep."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    left, right = _balanced(operator, parts[:middle]), _balanced(operator, parts[middle:])
    return Logic(start=left.start, end=right.end, operator=operator, left=left, right=right)


__all__ = ["DEPTH", "Parser", "Uint", "parse"]
