"""Some of many, and means of what is known."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from woodshed.statistics import evenly, mean_known


@given(st.integers(0, 300), st.integers(1, 300))
def test_evenly_chosen_items_are_distinct_in_order_and_reach_from_end_to_end(count, most):
    found = evenly(range(count), most)
    assert len(found) == min(count, most) and found == sorted({*found})
    assert len(found) < 2 or (found[0], found[-1]) == (0, count - 1)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_what_is_not_known_has_no_part_in_a_mean():
    assert mean_known([1, None, math.nan, 3, math.inf]) == pytest.approx(2)
    assert math.isnan(mean_known([None])) and math.isnan(mean_known([]))
