"""Keys must depend on the token alone and tell tokens apart."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from wpt_scenes.token_keys import NO_TOKEN, key_of, keys_of

TOKENS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)


@given(st.lists(TOKENS, min_size=1, max_size=30))
def test_a_key_does_not_depend_on_its_neighbours(tokens: list[str]) -> None:
    together = keys_of(tokens)
    assert together.tolist() == [int(key_of(token)) for token in tokens]
    assert len(set(together.tolist())) == len(set(tokens))
    assert [key == NO_TOKEN for key in together] == [token == "" for token in tokens]


def test_counters_get_different_keys() -> None:
    tokens = [f"{number:032x}" for number in range(20_000)] + [f"{number}" for number in range(20_000)]
    assert len(np.unique(keys_of(tokens))) == len(tokens)


def test_keys_are_the_same_in_every_process() -> None:
    # A value that was seen: keys travel to other processes inside pickled tables.
    assert key_of("ca9a282c9e77460f8360f564131a8af5") == np.int64(5626709659078306058)


def test_no_tokens_no_keys() -> None:
    assert keys_of([]).shape == (0,)
