"""One predicate on small and large bodies, and long case lists: this engine, Rust's cel and celpy, in one run.

Bars: at least 50 times the faster of the two at 2 kB, cost independent of the body's size, 1000 constant cases within
twice of 10."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import cel
import celpy

from esb.expressions import Environment

PREDICATE = 'body.Order.Country in ["DE", "AT", "CH"] && body.Order.Lines.size() >= 3 && header["x-channel"] != "test"'


def body(size: int) -> dict[str, Any]:
    """An order of about that many bytes."""
    line = {"Sku": "A-1000-XL", "Qty": 2, "Text": "a line of an order with some words"}
    return {"Order": {"Country": "AT", "Total": 12000, "Lines": [dict(line) for _ in range(max(size // 80, 3))]}}


def cost(call: Callable[[], object], seconds: float = 0.3) -> float:
    """Microseconds a call: the median of five rounds."""
    call()
    rounds = []
    for _ in range(5):
        count, begun = 0, time.perf_counter()
        while (took := time.perf_counter() - begun) < seconds / 5:
            for _ in range(10 if count else 1):
                call()
            count += 10 if count else 1
        rounds.append(took / count * 1e6)
    return statistics.median(rounds)


def engines(scope: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """The predicate, compiled by each."""
    ours = Environment().compile(PREDICATE)
    rust = cel.compile(PREDICATE)
    environment = celpy.Environment()
    python = environment.program(environment.compile(PREDICATE))
    return {
        "esb": lambda: ours.evaluate(scope),
        "common-expression-language": lambda: rust.execute(scope),
        "cel-python": lambda: python.evaluate({name: celpy.json_to_cel(value) for name, value in scope.items()}),
    }


def main() -> None:
    measured: dict[tuple[str, int], float] = {}
    print(f"{'engine':<28}{'2 kB':>12}{'200 kB':>14}   microseconds a predicate")
    for size in (2_000, 200_000):
        scope = {"body": body(size), "header": {"x-channel": "edi"}}
        for name, call in engines(scope).items():
            measured[(name, size)] = cost(call)
    for name in ("esb", "common-expression-language", "cel-python"):
        print(f"{name:<28}{measured[(name, 2_000)]:>12.2f}{measured[(name, 200_000)]:>14.2f}")
    best = min(measured[(name, 2_000)] for name in ("common-expression-language", "cel-python"))
    print(f"ratio at 2 kB: {best / measured[('esb', 2_000)]:.0f} times the faster of the two (bar: 50)")
    print(f"200 kB against 2 kB: {measured[('esb', 200_000)] / measured[('esb', 2_000)]:.2f}")
    cases()


def cases() -> None:
    """Case lists that compare one expression with constants, and ones that do not; the last case is the true one."""
    print(f"\n{'cases':<10}{'constants':>12}{'predicates':>14}   microseconds a choice")
    found = {}
    for count in (10, 100, 1000):
        environment = Environment()
        constants = environment.compile_cases([f'body.partner == "P{number}"' for number in range(count)])
        predicates = environment.compile_cases([f"body.n == {number} && body.n >= 0" for number in range(count)])
        scope = {"body": {"partner": f"P{count - 1}", "n": count - 1}}
        found[count] = cost(lambda made=constants, over=scope: made.choose(over))
        print(f"{count:<10}{found[count]:>12.2f}{cost(lambda made=predicates, over=scope: made.choose(over)):>14.2f}")
    print(f"1000 constant cases cost {found[1000] / found[10]:.2f} times of 10 (bar: 2)")


if __name__ == "__main__":
    main()
