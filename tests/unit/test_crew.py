"""Owners of keys, and answers of several workers made one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as some

from esb.admin.group import figures, merged
from esb.crew import Crew


@given(some.text(max_size=50), some.integers(2, 12))
def test_the_owner_of_a_key_is_the_same_for_every_worker_r27(key: str, count: int) -> None:
    owners = {Crew(number, count, Path()).owner(key) for number in range(1, count + 1)}
    assert len(owners) == 1
    assert 1 <= owners.pop() <= count


def test_keys_are_dealt_out_evenly_and_few_move_when_a_worker_is_added_r27() -> None:
    three, four = Crew(1, 3, Path()), Crew(1, 4, Path())
    keys = [f"order-{number}" for number in range(6000)]
    shares = Counter(three.owner(key) for key in keys)
    assert all(1800 < share < 2200 for share in shares.values())
    moved = [key for key in keys if three.owner(key) != four.owner(key)]
    assert all(four.owner(key) == 4 for key in moved)
    assert 1300 < len(moved) < 1700


def test_answers_are_summed_joined_and_held_together() -> None:
    one = {
        "bus": "x", "accepting": True, "routes": [{"name": "a", "accepted": 3, "states": {"done": 3}, "paused": ""}],
        "targets": [{"name": "erp", "waiting": 1, "oldest": "2026-01-02"}], "problems": [], "balanced": True,
    }  # fmt: skip
    two = {
        "bus": "x", "accepting": False, "routes": [{"name": "a", "accepted": 4, "states": {"dead": 1}, "paused": "why"}],
        "targets": [{"name": "erp", "waiting": 2, "oldest": "2026-01-01"}], "problems": [{"component": "c", "reason": "r"}],
        "balanced": True,
    }  # fmt: skip
    assert merged([one, two]) == {
        "bus": "x", "accepting": False,
        "routes": [{"name": "a", "accepted": 7, "states": {"done": 3, "dead": 1}, "paused": "why"}],
        "targets": [{"name": "erp", "waiting": 3, "oldest": "2026-01-01"}],
        "problems": [{"component": "c", "reason": "r"}], "balanced": True,
    }  # fmt: skip


def test_messages_of_all_workers_stand_by_time_and_none_is_made_one() -> None:
    rows = [{"id": "a", "accepted": "1", "route": "x"}, {"id": "b", "accepted": "3", "route": "x"}]
    other = [{"id": "c", "accepted": "2", "route": "x"}]
    assert [row["id"] for row in merged([{"messages": rows}, {"messages": other}])["messages"]] == ["b", "c", "a"]


def test_figures_of_all_workers_carry_their_label_and_a_family_is_told_once() -> None:
    text = '# HELP esb_accepted_total Messages\n# TYPE esb_accepted_total counter\nesb_accepted_total{route="a"} 3.0\n'
    assert figures({"1": text, "2": text.replace("3.0", "4.0") + "# TYPE up gauge\nup 1\n"}).splitlines() == [
        "# HELP esb_accepted_total Messages",
        "# TYPE esb_accepted_total counter",
        'esb_accepted_total{worker="1",route="a"} 3.0',
        'esb_accepted_total{worker="2",route="a"} 4.0',
        "# TYPE up gauge",
        'up{worker="2"} 1',
    ]
