"""Names of others act nowhere, and stay readable."""

from pathlib import Path

import pytest

from milan_mm.errors import MissingFileError, UserError
from milan_mm.escaping import csv_cell, visible

NAMES = ("größe/写真 № 5.jpg", "नमस्ते \u200d👩\u200d👧", "فارسی\u200cها")  # noqa: RUF001


@pytest.mark.parametrize("name", NAMES)
def test_letters_of_all_languages_are_shown_as_they_are(name: str):
    assert visible(name) == name == str(UserError(name)) == str(MissingFileError(Path(name)))


def test_what_a_terminal_obeys_is_shown_by_its_number():
    assert str(UserError("a\x1b[2J\u202egnp\nb")) == "a\\x1b[2J\\u202egnp\nb"
    assert visible("\udcff") == "\\udcff"  # a byte of a name that is not UTF-8


def test_numbers_of_a_csv_file_stay_numbers_and_formulas_do_not():
    assert [csv_cell(v) for v in (-0.5, -3, None, "a-b", "5")] == [-0.5, -3, None, "a-b", "5"]
    assert [csv_cell(v) for v in ("=1", "-0.5", "a\n@x")] == ["'=1", "'-0.5", "a\n'@x"]
