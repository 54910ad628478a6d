"""Lists in messages stay short."""

from pathlib import Path

from milan_mm.text import shorten_list


def test_long_lists_end_with_the_number_of_what_is_left_out():
    assert shorten_list("abc") == "'a', 'b', 'c'"
    assert shorten_list(range(9)) == "0, 1, 2, 3, 4 and 4 more"
    assert shorten_list([Path("a"), "b", 7], limit=2) == "'a', 'b' and 1 more"
    assert shorten_list([]) == "nothing"
