"""One predicate on small and large bodies, and long case lists: this engine, Rust's cel and celpy, in one run.

Bars: at least 50 times the faster of the two at 2 kB, cost independent of the body's size, 1000 constant cases within
twice of 10. A message comes as a plain tree, so an engine that wants its own values converts them for every message;
the rows "converted before" leave that out, as if one message were asked again and again. Ends with 1 when a bar is not
reached.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import cel
import celpy

from esb.expressions import Environment

PREDICATE = 'body.Order.Country in ["DE", "AT", "CH"] && body.Order.Lines.size() >= 3 && header["x-channel"] != "test"'
ROUNDS = 5
SECONDS = 0.06
SIZES = (2_000, 200_000)
COUNTS = (10, 100, 1000)
OURS = "esb"
OTHERS = ("common-expression-language", "cel-python")


def body(size: int) -> dict[str, Any]:
    """An order of about that many bytes."""
    line = {"Sku": "A-1000-XL", "Qty": 2, "Text": "a line of an order with some words"}
    return {"Order": {"Country": "AT", "Total": 12000, "Lines": [dict(line) for _ in range(max(size // 80, 3))]}}


def once(call: Callable[[], object]) -> float:
    """Microseconds a call, over one round."""
    count, batch, begun = 0, 1, time.perf_counter()
    while (took := time.perf_counter() - begun) < SECONDS:
        for _ in range(batch):
            call()
        count, batch = count + batch, min(batch * 2, 500)
    return took / count * 1e6


def measure(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The median of interleaved rounds, so that what else runs on the machine hits all of them."""
    for call in calls.values():
        call()
    rounds = [{name: once(call) for name, call in calls.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(row[name] for row in rounds) for name in calls}


def engines(scope: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """The predicate, compiled by each."""
    ours = Environment().compile(PREDICATE)
    rust, context = cel.compile(PREDICATE), cel.Context(scope)
    environment = celpy.Environment()
    python = environment.program(environment.compile(PREDICATE))
    converted = {name: celpy.json_to_cel(value) for name, value in scope.items()}
    return {
        OURS: lambda: ours.evaluate(scope),
        "common-expression-language": lambda: rust.execute(scope),
        "  converted before": lambda: rust.execute(context),
        "cel-python": lambda: python.evaluate({name: celpy.json_to_cel(value) for name, value in scope.items()}),
        "  converted before ": lambda: python.evaluate(converted),
    }


def choices(count: int) -> dict[str, Callable[[], object]]:
    """Case lists that compare one expression with constants, and ones that do not; the last case is the true one."""
    environment = Environment()
    constants = environment.compile_cases([f'body.partner == "P{number}"' for number in range(count)])
    predicates = environment.compile_cases([f"body.n == {number} && body.n >= 0" for number in range(count)])
    scope = {"body": {"partner": f"P{count - 1}", "n": count - 1}}
    return {"constants": lambda: constants.choose(scope), "predicates": lambda: predicates.choose(scope)}


def main() -> int:
    print(f"Python {platform.python_version()}, {platform.machine()}; median of {ROUNDS} interleaved rounds\n")
    found = {size: measure(engines({"body": body(size), "header": {"x-channel": "edi"}})) for size in SIZES}
    print(f"{'microseconds a predicate':<30}{'2 kB':>10}{'200 kB':>12}{'slower at 2 kB':>18}")
    small, large = (found[size] for size in SIZES)
    for name, cost in small.items():
        print(f"{name:<30}{cost:>10.2f}{large[name]:>12.2f}{cost / small[OURS]:>17.0f}x")
    lists = {count: measure(choices(count)) for count in COUNTS}
    print(f"\n{'microseconds a choice':<30}{'constants':>10}{'predicates':>12}")
    for count, row in lists.items():
        print(f"{f'{count} cases':<30}{row['constants']:>10.2f}{row['predicates']:>12.2f}")
    faster = min(small[name] for name in OTHERS)
    bars = {
        "times the faster of the two at 2 kB, 50 or more": (faster / small[OURS], 50.0),
        "times the cost at 200 kB, 1.5 or less": (large[OURS] / small[OURS], -1.5),
        "times the cost of 1000 constant cases, 2 or less": (lists[1000]["constants"] / lists[10]["constants"], -2.0),
    }
    print()
    for said, (value, bar) in bars.items():
        print(f"{value:>8.2f} {said}: {'reached' if reached(value, bar) else 'NOT reached'}")
    return 0 if all(reached(*pair) for pair in bars.values()) else 1


def reached(value: float, bar: float) -> bool:
    """A negative bar is a limit, a positive one a reach."""
    return value <= -bar if bar < 0 else value >= bar


if __name__ == "__main__":
    sys.exit(main())
