"""Tokens into a tree: precedence climbing after the grammar of cel-spec, with bounds on depth."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from esb.expressions.lexer import Token, fault, tokens, too_long
from esb.expressions.macros import expand_call, expand_method
from esb.expressions.syntax import (
    DEEPEST,
    Call,
    Constant,
    ExpressionProblems,
    Index,
    ListOf,
    Logic,
    MapOf,
    Name,
    Node,
    Select,
    Ternary,
)
from esb.expressions.values import INT_MAX

NESTED: Final = 50
"""How deep parentheses, brackets and calls may stand in each other."""
_STRENGTH: Final = {
    "||": 1, "&&": 2,
    "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "in": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
}  # fmt: skip
_UNARY: Final = 6
_WORDS: Final = {"and": "&&", "or": "||", "not": "!", "is": "==", "AND": "&&", "OR": "||", "NOT": "!", "eq": "=="}
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_RESERVED: Final = frozenset(
    ("as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop", "namespace")
) | {"package", "return", "void", "while"}
N = TypeVar("N", bound=Node)


def parse(text: str) -> Any:
    """The tree of an expression; raises ExpressionProblems with the first fault of its syntax."""
    parser = Parser(text, tokens(text))
    tree = parser.expression()
    parser.finish()
    return tree


def parse_placeholder(text: str, start: int) -> tuple[Any, int]:
    """The tree of the placeholder whose brace stands right before `start`, and where its closing brace stands."""
    found = tokens(text, start, placeholder=True)
    end = found[-1].start
    if end >= len(text):
        raise fault(text, start - 1, start, "a { without its }", "write {{ for a brace", "E226")
    if len(found) == 1:
        raise fault(text, start - 1, end + 1, "an empty placeholder", "write {{}} for the braces", "E226")
    parser = Parser(text, found)
    tree = parser.expression()
    parser.finish()
    return tree, end


class Parser:
    """One text being read."""

    def __init__(self, text: str, found: list[Token]) -> None:
        self.text = text
        self._tokens = found
        self._at = 0
        self._nested = 0

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _is(self, operator: str) -> bool:
        token = self._tokens[self._at]
        return token.kind == "operator" and token.text == operator

    def _take(self, operator: str) -> bool:
        if self._is(operator):
            self._at += 1
            return True
        return False

    def _expect(self, operator: str, opened: Token) -> Token:
        if not self._is(operator):
            if self._now.kind == "end":
                raise fault(self.text, opened.start, opened.end, f'"{opened.text}" has no "{operator}" after it')
            raise self._unexpected(operator)
        return self._next()

    def _fault(self, token: Token, message: str, hint: str = "", code: str = "E220") -> ExpressionProblems:
        return fault(self.text, token.start, token.end, message, hint, code)

    def _unexpected(self, wanted: str = "") -> ExpressionProblems:
        token, before = self._now, self._tokens[self._at - 1] if self._at else None
        if token.kind == "end":
            return self._fault(token, "the expression ends too early" if before else "an empty expression")
        shown = f'"{token.text}"' if token.kind != "literal" else self.text[token.start : token.end][:40]
        if token.kind == "name" and token.text in _WORDS:
            return self._fault(token, f"{shown} is no operator", f"write {_WORDS[token.text]}")
        if before is not None and before.end == token.start and before.kind == "literal" and token.kind == "name":
            whole = f"{before.text}{token.text}"
            hint = f'a text is "{whole}", a span of time duration("{whole}")'
            return self._fault(token, f"{whole} is no number", hint)
        if token.text == ":" and before is not None and before.kind == "name" and not wanted:
            return self._fault(token, '":" is not expected here', 'a field with a colon is written ["ns:Name"]')
        if token.text in "=<>!" or (token.text == "==" and before is not None and before.text in _STRENGTH):
            return self._fault(token, f"{shown} is not expected here", "compare with == != < <= > >=")
        return self._fault(token, f"{shown} is not expected here", f"{wanted} is missing" if wanted else "")

    def make(self, kind: type[N], start: int, end: int, **fields: Any) -> N:
        """A node; raises where the tree becomes too deep."""
        depth = 1 + max(map(_depth, fields.values()))
        if depth > DEEPEST:
            raise fault(self.text, start, end, f"over {DEEPEST} parts deep", "split it: a map, set, or cases", "E225")
        return kind(start=start, end=end, depth=depth, **fields)

    def finish(self) -> None:
        """Raises where something is left over."""
        if self._now.kind != "end":
            raise self._unexpected()

    def expression(self) -> Any:
        """A ternary or what is stronger; chains of ternaries are read in a row, not in each other."""
        self._nested += 1
        if self._nested > NESTED:
            raise self._fault(self._now, f"nested over {NESTED} deep", "split it: a map, set, or cases", "E225")
        arms: list[tuple[Any, Any]] = []
        node = self._binary(1)
        while self._is("?"):
            mark = self._next()
            yes = self._binary(1)
            self._expect(":", mark)
            arms.append((node, yes))
            node = self._binary(1)
        for condition, yes in reversed(arms):
            node = self.make(Ternary, condition.start, node.end, condition=condition, yes=yes, no=node)
        self._nested -= 1
        return node

    def _operator(self) -> str:
        token = self._tokens[self._at]
        if token.kind == "operator" or (token.kind == "name" and token.text == "in"):
            return token.text
        return ""

    def _binary(self, strength: int) -> Any:
        left = self._unary()
        while (now := _STRENGTH.get(operator := self._operator(), 0)) >= strength:
            if now < 3:
                left = self._logic(operator, left, now)
                continue
            self._next()
            right = self._binary(now + 1)
            left = self.make(Call, left.start, right.end, name=operator, arguments=(left, right))
        return left

    def _logic(self, operator: str, left: Any, strength: int) -> Any:
        parts = [left]
        while self._operator() == operator:
            self._next()
            parts.append(self._binary(strength + 1))
        return self.make(Logic, left.start, parts[-1].end, operator=operator, parts=tuple(parts))

    def _unary(self) -> Any:
        marks: list[Token] = []
        while self._is("!") or self._is("-"):
            marks.append(self._next())
        node = self._negative(marks) if marks and marks[-1].text == "-" else self._postfix(self._primary())
        for mark in reversed(marks):
            name = "!" if mark.text == "!" else "-_"
            node = self.make(Call, mark.start, node.end, name=name, arguments=(node,))
        return node

    def _negative(self, marks: list[Token]) -> Any:
        """A minus right before digits belongs to them: -9223372036854775808 has no positive twin."""
        token = self._now
        if token.kind != "literal" or type(token.value) not in (int, float):
            return self._postfix(self._primary())
        mark = marks.pop()
        self._next()
        digits = None if token.digits is None else f"-{token.digits}"
        return self._postfix(self.make(Constant, mark.start, token.end, value=-token.value, digits=digits))

    def _postfix(self, node: Any) -> Any:
        while self._now.kind == "operator":
            if self._is("."):
                dot = self._next()
                node = self._dotted(node, self._is("?") and self._now.start == dot.end and self._take("?"))
            elif self._is("["):
                node = self._indexed(node)
            elif self._is("{") and isinstance(node, (Name, Select)):
                hint = "write a map: {...}"
                raise fault(self.text, node.start, self._now.end, "messages of types are not offered", hint)
            else:
                break
        return node

    def _dotted(self, operand: Any, optional: bool) -> Any:
        token = self._now
        if token.kind not in ("name", "quoted"):
            if token.kind == "literal":
                raise self._fault(token, "a field's name is missing", f'write ["{token.text}"] for the field')
            raise self._fault(token, "a field's name is missing")
        self._next()
        if token.kind == "name" and token.text == "in":
            raise self._fault(token, '"in" is an operator', 'write ["in"] for the field')
        if optional or token.kind == "quoted" or not self._is("("):
            return self.make(Select, operand.start, token.end, operand=operand, field=token.text, optional=optional)
        arguments, end = self._arguments()
        return expand_method(self, operand, token, arguments, end)

    def _indexed(self, operand: Any) -> Any:
        opened = self._next()
        optional = self._take("?")
        index = self.expression()
        end = self._expect("]", opened).end
        if isinstance(index, Constant) and type(index.value) is str:
            return self.make(Select, operand.start, end, operand=operand, field=index.value, optional=optional)
        return self.make(Index, operand.start, end, operand=operand, index=index, optional=optional)

    def _arguments(self) -> tuple[tuple[Any, ...], int]:
        opened = self._next()
        items: list[Any] = []
        while not self._is(")"):
            items.append(self.expression())
            if not self._take(","):
                break
        return tuple(items), self._expect(")", opened).end

    def _primary(self) -> Any:
        token = self._now
        if token.kind == "literal":
            self._next()
            if type(token.value) is int and token.value > INT_MAX:
                raise too_long(self.text, token.start, token.end)
            return self.make(Constant, token.start, token.end, value=token.value, digits=token.digits)
        if token.kind == "name":
            return self._named(False)
        if self._take("."):
            if self._now.kind != "name":
                raise self._unexpected("a name")
            return self._named(True)
        if self._take("("):
            node = self.expression()
            self._expect(")", token)
            return node
        if self._is("["):
            return self._list()
        if self._is("{"):
            return self._map()
        raise self._unexpected()

    def _named(self, rooted: bool) -> Any:
        token = self._now
        if token.text in _WORDS:
            raise self._unexpected()
        self._next()
        if token.text in _CONSTANTS:
            return self.make(Constant, token.start, token.end, value=_CONSTANTS[token.text])
        if token.text in _RESERVED:
            hint = "write condition ? this : that" if token.text == "if" else ""
            raise self._fault(token, f'"{token.text}" is a reserved word', hint)
        if not self._is("("):
            return self.make(Name, token.start, token.end, name=token.text, rooted=rooted)
        arguments, end = self._arguments()
        return expand_call(self, token, arguments, end)

    def _list(self) -> Any:
        opened = self._next()
        items: list[Any] = []
        optional: list[int] = []
        while not self._is("]"):
            if self._take("?"):
                optional.append(len(items))
            items.append(self.expression())
            if not self._take(","):
                break
        end = self._expect("]", opened).end
        return self.make(ListOf, opened.start, end, items=tuple(items), optional=tuple(optional))

    def _map(self) -> Any:
        opened = self._next()
        entries: list[tuple[Any, Any]] = []
        optional: list[int] = []
        while not self._is("}"):
            if self._take("?"):
                optional.append(len(entries))
            key = self.expression()
            if self._is("}") and not entries:
                raise self._fault(opened, "braces make a map", "leave them out: only a text takes {...}")
            self._expect(":", key_token(key))
            entries.append((key, self.expression()))
            if not self._take(","):
                break
        end = self._expect("}", opened).end
        return self.make(MapOf, opened.start, end, entries=tuple(entries), optional=tuple(optional))


def _depth(part: Any) -> int:
    if isinstance(part, Node):
        return part.depth
    return max(map(_depth, part), default=0) if type(part) is tuple else 0


def key_token(key: Any) -> Token:
    """A map's key as what opens its entry."""
    return Token("name", "a key", key.start, key.end)
