"""Trees as the XML codec makes them, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff", include_characters="\t\n\r"),
    max_size=8,
)
names = st.sampled_from(["a", "b", "c-1", "Größe", "_x"])
attributes = st.dictionaries(names.map("@{}".format), texts, max_size=2)


def _leaf(fields: dict[str, Any], value: str | None) -> Any:
    if not fields:
        return value
    return fields if value == "" else {**fields, "#text": value}


leaves = st.builds(_leaf, attributes, texts | st.none())


def _fields(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Elements with children: what repeats is a list of at least two."""
    children = st.dictionaries(names, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3)
    return st.builds(lambda head, body: {**head, **body}, attributes, children)


contents = st.recursive(leaves, _fields, max_leaves=8)
"""The content of one element."""

documents = st.builds(lambda name, content: {name: content}, names, contents)
