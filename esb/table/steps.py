"""`do`: steps with their conditions, and `use` written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from esb.table import forms, keys
from esb.table.draft import Draft
from esb.table.model import OutcomeSpec, Place, StepSpec
from esb.table.notes import closest, one_of, route_of
from esb.table.plain import Plain


class Around(NamedTuple):
    """What a `use` says for each of its steps, through which names it came here, and whose `do` it began in."""

    owner: Place = ()
    through: tuple[str, ...] = ()
    condition: str | None = None
    bad: OutcomeSpec | None = None
    note: str = ""


def read_steps(draft: Draft, value: Any, place: Place, around: Around = Around()) -> tuple[StepSpec, ...]:
    """The steps of one `do`, in order."""
    around = around if around.owner else around._replace(owner=place[:2])
    if not isinstance(value, list):
        draft.broken.add(around.owner)
        draft.wrong(place, "do is not a list", "write do = [{ ... }, { ... }]")
        return ()
    made: list[StepSpec] = []
    for index, item in enumerate(value):
        here: Place = (*place, index)
        if isinstance(item, Mapping):
            made += _use(draft, item, here, around) if "use" in item else _step(draft, item, here, around)
        else:
            hint = (
                f'write {{ read = "{item}" }}' if item in draft.catalogue.names("codec") else 'write { read = "json" }'
            )
            draft.broken.add(around.owner)
            draft.wrong(here, "a step is a table", hint)
    return tuple(made)


def _use(draft: Draft, value: Mapping[str, Any], place: Place, around: Around) -> tuple[StepSpec, ...]:
    """The steps of `[steps.NAME]`, each with what the `use` says beside the name."""
    for key in sorted(set(value) - keys.STEP - {"use"}):
        keys.unknown(draft.notes, place, key, one_of(key, sorted({*keys.STEP, "use"})), route_of(place))
    name = str(value["use"])
    known = draft.names.steps
    if name not in known:
        said = f'{route_of(place)}no steps named "{name}"'
        draft.notes.add((*place, "use"), "E210", said, closest(name, known))
        draft.broken.add(around.owner)
        return ()
    if name in around.through:
        said = f'steps "{name}" use themselves: {" -> ".join((*around.through, name))}'
        draft.notes.add((*place, "use"), "E211", said, "leave one of them out")
        return ()
    inner = _common(draft, value, place, around)._replace(through=(*around.through, name))
    content = known[name] if isinstance(known[name], Mapping) else {}
    return read_steps(draft, content.get("do", []), ("steps", name, "do"), inner)


def _common(draft: Draft, value: Mapping[str, Any], place: Place, around: Around) -> Around:
    """`if`, `bad` and `note` of a step, on top of those of the `use` around it."""
    plain = Plain(value, place, draft.notes)
    condition = draft.expression(plain.text("if", None), (*place, "if"))
    both = [part for part in (around.condition, condition) if part is not None]
    bad = around.bad
    if "bad" in value:
        bad = forms.read(lambda: forms.outcome(value["bad"], forms.BAD), (*place, "bad"), draft.notes) or bad
    return Around(
        around.owner,
        around.through,
        both[0] if len(both) == 1 else " && ".join(f"({part})" for part in both) or None,
        bad,
        plain.text("note") or around.note,
    )


def _step(draft: Draft, value: Mapping[str, Any], place: Place, around: Around) -> list[StepSpec]:
    common = _common(draft, value, place, around)
    found = draft.catalogue.find("step", value, place)
    if found is None:
        draft.broken.add(around.owner)
        draft.lacks(around.owner, place)
        return []
    spec = StepSpec(
        component=found.component,
        options=found.options,
        place=place,
        folder=draft.folder(place),
        condition=common.condition,
        bad=common.bad,
        note=common.note,
    )
    return [spec]
