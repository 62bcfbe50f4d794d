"""What is wrong with a text before any message: every finding at once, with its place and what would be right."""

from __future__ import annotations

import pytest
from expression_scope import finding, findings

from esb.expressions import Environment, ExpressionProblems


@pytest.mark.parametrize(
    ("text", "code", "offset", "message", "hint"),
    [
        ("body.x = 3", "E220", 7, "a single =", "compare with =="),
        ("body.x === 3", "E220", 9, "a single =", "compare with =="),
        ("body.x and true", "E220", 7, '"and" is no operator', "write &&"),
        ("body.x or true", "E220", 7, '"or" is no operator', "write ||"),
        ("not body.x", "E220", 0, '"not" is no operator', "write !"),
        ("body.x & true", "E220", 7, "a single &", "write &&"),
        ("body.x == 'abc", "E220", 10, "a text that is not closed", "it ends with another '"),
        ("body.x == “abc”", "E220", 10, "“ is no quote", "write \" or '"),
        ("body.x == 'a\\d'", "E220", 12, "\\d is no escape", "write \\\\d for a backslash, or a raw text: r'...'"),
        ("(1 + 2", "E220", 0, '"(" has no ")" after it', ""),
        ("[1, 2", "E220", 0, '"[" has no "]" after it', ""),
        ("body.a ? 1", "E220", 7, '"?" has no ":" after it', ""),
        ("1 +", "E220", 3, "the expression ends too early", ""),
        ("", "E220", 0, "an empty expression", ""),
        ("1 2", "E220", 2, "2 is not expected here", ""),
        ("body.Order.@id == '1'", "E220", 11, "@id cannot follow a dot", 'write ["@id"] for the field'),
        ("body.soap:Body", "E220", 9, '":" is not expected here', 'a field with a colon is written ["ns:Name"]'),
        ("now > 30s", "E220", 8, "30s is no number", 'a text is "30s", a span of time duration("30s")'),
        ("body.x == 9223372036854775808", "E220", 10, "a whole number over 64 bit", 'write decimal("9223372036854775808")'),
        ("body.Größe == 1", "E220", 7, "'ö' is no letter of a name here", 'write ["Größe"] for a field'),
        ("body.l.map(x => x.a)", "E220", 13, "there is no =>", "write list.map(x, x.field)"),
        ("if(body.a, 1, 2)", "E220", 0, '"if" is a reserved word', "write condition ? this : that"),
        ("{body.x}", "E220", 0, "braces make a map", "leave them out: only a text takes {...}"),
        ("for == 1", "E220", 0, '"for" is a reserved word', ""),
        ("a.b{c: 1}", "E220", 0, "messages of types are not offered", "write a map: {...}"),
        ("Body.x == 1", "E221", 0, 'there is no variable "Body"', 'did you mean "body"?'),
        ("header.x == EU", "E221", 12, 'there is no variable "EU"', 'a text is written "EU", a field body.EU'),
        ("body.x == None", "E221", 10, 'there is no variable "None"', "write null"),
        ("body.x == True", "E221", 10, 'there is no variable "True"', "write true"),
        ("body.Ship-To.Name == 'x'", "E221", 0, "a - in a name is read as minus", 'write body["Ship-To"].Name'),
        ("header.x-my-channel == 'x'", "E221", 0, "a - in a name is read as minus", 'write header["x-my-channel"]'),
        ("len(body.x) == 1", "E222", 0, 'there is no function "len"', "write size(x)"),
        ("body.x.toLowerCase() == 'a'", "E222", 0, 'there is no function "toLowerCase"', "write text.lowerAscii()"),
        ("body.x.startswith('a')", "E222", 0, 'there is no function "startswith"', 'did you mean "startsWith"?'),
        ("startsWith(body.x, 'a')", "E222", 0, 'there is no function "startsWith" for this', "write body.x.startsWith('a')"),
        ("body.x.int() == 1", "E222", 0, 'there is no function "int" for this', "write int(body.x)"),
        ("size(body.x, 1) == 1", "E223", 0, "size() takes 1 argument", "write size(x)"),
        ("body.x.substring() == ''", "E223", 0, "substring() takes 1 to 2 arguments", "write text.substring(start, end)"),
        ("math.greatest() == 1", "E223", 0, "math.greatest() takes 1 or more arguments", "write math.greatest(a, b, ...)"),
        ("body.x.map(y)", "E223", 7, "map is not written like this", "write list.map(x, x.field)"),
        ("body.x.all(1, true)", "E223", 7, "all is not written like this", "write list.all(x, x > 0)"),
        ("has(body)", "E223", 0, "has is not written like this", "write has(body.note)"),
        ("size(body.x) == '1'", "E224", 0, "a whole number == a text does not go together", ""),
        ("header.count > 5", "E224", 0, "a text > a whole number does not go together", "write int(header.count)"),
        ("'n' + size(body.x)", "E224", 0, "a text + a whole number does not go together", "write string(size(body.x))"),
        ("decimal(body.x) * double(body.y)", "E224", 0, "a decimal * a double does not go together", "write decimal(double(body.y))"),
        ("'a' in header.x", "E224", 0, "a text in a text does not go together", "write header.x.contains('a')"),
        ("size(body.x) && true", "E224", 0, "&& takes true or false, and size(body.x) is a whole number", ""),
        ("'a' ? 1 : 2", "E224", 0, "? : takes true or false, and 'a' is a text", ""),
        ("!size(body.x)", "E224", 0, "! of a whole number", ""),
        ("-'a'", "E224", 0, "- of a text", ""),
        ("'abc'.field", "E224", 0, "'abc' is a text: it has no fields", ""),
        ("size(1)", "E224", 5, "size() takes a text, bytes, a list or a map, and 1 is a whole number", ""),
        ("header.x.map(c, c)", "E224", 0, "map goes over a list or a map, and header.x is a text", ""),
        ("[1].filter(x, 'a')", "E224", 14, "filter asks for true or false, and 'a' is not", ""),
        ("{1.5: 'x'}", "E224", 1, "a key is a text, a whole number, true or false, not a double", ""),
        ("[?1]", "E224", 2, "? takes an optional, and 1 is a whole number", ""),
        ("body.x.matches('a(')", "E227", 15, '"a(" is no regular expression (RE2): missing )', ""),
        ("decimal('12 EUR') > 1", "E227", 8, '"12 EUR" is no number', ""),
        ("now.getHours('Mars')", "E227", 13, '"Mars" is no time zone: Europe/Berlin is one, +02:00 too', ""),
    ],
)  # fmt: skip
def test_a_finding_has_its_place_and_says_what_would_be_right(
    text: str, code: str, offset: int, message: str, hint: str
) -> None:
    found = finding(text)
    assert (found.code, found.offset, found.message, found.hint) == (code, offset, message, hint)


def test_all_findings_of_a_text_come_at_once_in_its_order() -> None:
    found = findings("Body.a == 1 && len(body.b) > 2 || body.c.matches('(') && size(body.d) == 'x'")
    assert [(item.code, item.offset) for item in found] == [("E221", 0), ("E222", 15), ("E227", 49), ("E224", 57)]


def test_the_length_of_a_finding_covers_the_part_it_is_about() -> None:
    text = "body.a == EU"
    found = finding(text)
    assert text[found.offset : found.offset + found.length] == "EU"


def test_what_is_right_has_no_findings() -> None:
    assert findings("body.anything.goes == 1 && header['x'] == body.y") == ()


def test_the_error_says_the_first_finding() -> None:
    with pytest.raises(ExpressionProblems, match=r"a single = \(at character 8 of body\.x = 3\); compare with =="):
        Environment().compile("body.x = 3")


def test_only_the_variables_of_the_moment_are_known() -> None:
    answer = Environment(variables=frozenset({"status", "reply"}))
    assert answer.compile("status in [200, 409]").evaluate({"status": 409}) is True
    with pytest.raises(ExpressionProblems, match='no variable "body"'):
        answer.compile("body.x == 1")


def test_a_macros_variable_is_known_inside_it_and_hides_others() -> None:
    assert findings("body.lines.exists(now, now == 1)") == ()
    assert finding("body.lines.exists(l, l.x == 1) && l.x == 1").offset == 34


def test_comments_and_line_ends_count_in_offsets() -> None:
    assert finding("body.a == 1 // the first\n  && Body.b == 2").offset == 30
