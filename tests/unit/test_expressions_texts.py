"""Text functions: by character, as cel-spec's strings extension has them."""

from __future__ import annotations

from typing import Any

import pytest
from expression_scope import error, value
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("size('πέντε')", 5),
        ("'grüße'.upperAscii() + '|' + 'GRÜßE'.lowerAscii()", "GRüßE|grÜße"),
        ("'\\u00a0 a b \\n'.trim()", "a b"),
        ("'a-b-c'.split('-')", ["a", "b", "c"]),
        ("'a-b-c'.split('-', 2)", ["a", "b-c"]),
        ("'abc'.split('')", ["a", "b", "c"]),
        ("'abc'.split('', 2)", ["a", "bc"]),
        ("'abc'.split('-', 0)", []),
        ("['a', 'b'].join('-') + [].join()", "a-b"),
        ("'aaa'.replace('a', 'b', 2)", "bba"),
        ("'tacocat'.substring(1, 4) + 'tacocat'.substring(4)", "acocat"),
        ("'tacocat'.indexOf('c', 3)", 4),
        ("'tacocat'.lastIndexOf('a', 4)", 1),
        ("'tacocat'.charAt(0) + 'tacocat'.charAt(7)", "t"),
        ("'abc'.reverse()", "cba"),
        ("strings.quote('a\"b\\n')", '"a\\"b\\n"'),
        ("'order-4711'.matches('^order-[0-9]+$') && matches('x4', '[0-9]')", True),
        ("'order'.startsWith('or') && 'order'.endsWith('er') && 'order'.contains('rde')", True),
        ("base64.decode(base64.encode(b'\\xff\\x00')) == b'\\377\\000'", True),
        ("'%s|%d|%.2f|%x|%X|%o|%b|%e|%%'.format(['a', 5, 2.5, 255, 255, 8, 5, 1234.5])", "a|5|2.50|ff|FF|10|101|1.234500e+03|%"),
        ("'%s'.format([[1, null, true, {'b': 1.5, 'a': now}]])", "[1, null, true, {a: 2026-03-01T02:10:00Z, b: 1.5}]"),
        ("'%.2f %s %d'.format([decimal('2.345'), decimal('1.10'), decimal('7')])", "2.34 1.10 7"),
        ("string(b'a') + string(1.0) + string(true) + string(5u)", "a1true5"),
        ("r'\\d' + '''a'b''' + \"\"\"c\"d\"\"\"", "\\da'bc\"d"),
        ("b'ü' == bytes('ü')", True),
    ],
)  # fmt: skip
def test_a_text_function_gives_its_text(text: str, result: Any) -> None:
    assert value(text) == result


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("'abc'.substring(-1)", "M258"),
        ("'abc'.substring(2, 1)", "M258"),
        ("'abc'.charAt(4)", "M258"),
        ("'abc'.indexOf('a', 9)", "M258"),
        ("body.join(',')", "M254"),
        ("['a', body].join(',')", "M254"),
        ("'%y'.format([1])", "M259"),
        ("'%.2d'.format([1])", "M259"),
        ("'%.9999f'.format([1.0])", "M259"),
        ("'%x'.format([1.5])", "M254"),
        ("'%s'.format([type(1)]) + body", "M254"),
        ("base64.decode('*')", "M259"),
        ("string(b'\\xff')", "M259"),
        ("body.trim()", "M254"),
    ],
)
def test_what_does_not_fit_is_an_error(text: str, code: str) -> None:
    assert error(text, body=5).code == code


@given(st.text(), st.text(min_size=1, max_size=3))
def test_splitting_and_joining_gives_the_text_back(text: str, separator: str) -> None:
    assert value("body.t.split(body.s).join(body.s) == body.t", body={"t": text, "s": separator}) is True


@given(st.text(), st.integers(0, 50))
def test_both_halves_of_a_text_make_it_whole(text: str, place: int) -> None:
    cut = min(place, len(text))
    assert value("body.t.substring(0, body.n) + body.t.substring(body.n) == body.t", body={"t": text, "n": cut}) is True


@given(st.binary())
def test_base64_gives_the_bytes_back(data: bytes) -> None:
    assert value("base64.decode(base64.encode(body))", body=data) == data
