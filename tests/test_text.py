"""Lists in messages stay short."""

from pathlib import Path

from milan_mm.text import shorten_list, shorten_value


def test_long_lists_end_with_the_number_of_what_is_left_out():
    assert shorten_list("abc") == "'a', 'b', 'c'"
    assert shorten_list(range(9)) == "0, 1, 2, 3, 4 and 4 more"
    assert shorten_list([Path("a"), "b", 7], limit=2) == "'a', 'b' and 1 more"
    assert shorten_list([]) == "nothing"


def test_a_value_is_shown_as_it_is_written_unless_it_is_a_long_list():
    assert shorten_value("a") == "'a'" and shorten_value([1.5, None]) == "[1.5, None]"
    assert shorten_value([*"abcdefg"]) == "['a', 'b', 'c', 'd', 'e' and 2 more]"
