"""Options that scripts have in common."""

import argparse

import pytest

from stn_jax.launch.options import indices


def test_indices_are_read_in_the_order_given():
    assert indices("8,61,0") == [8, 61, 0]
    assert indices("3") == [3]


@pytest.mark.parametrize("text", ["", "1,x", "1 2"])
def test_what_is_no_list_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a list such as 8,61"):
        indices(text)
