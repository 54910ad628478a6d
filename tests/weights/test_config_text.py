"""The text of a config gives its values, and nothing in it is run."""

import re

import pytest
from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.weights.config_text import parse_config, read_config


def test_a_config_comes_back_as_mmengine_wrote_it():
    values = dict(a=dict(b=[1, (2.5, None)], **{"c.d": -1}), e={"f-g": True, "h": {1: "i"}}, j=())
    cfg = Config(values)
    text = cfg.pretty_text
    assert re.search(r"dict\(\s*\{", text)  # of keys that are not names
    assert Config(read_config(text, "the file")).to_dict() == cfg.to_dict()
    assert Config(parse_config(text)).to_dict() == cfg.to_dict()


@pytest.mark.parametrize("code", ["f()", "{**f}", "{[1]: 2}", "dict(f)", "dict(**f)", "{[1]}"])
def test_code_is_named_or_left_out(code: str):
    text = f"\na = dict(b={code}, c=[{code}, 1])"
    assert parse_config("import os" + text) == dict(a=dict(b=None, c=[None, 1]))
    with pytest.raises(UserError, match="line 2"):
        read_config(text, "the file")
