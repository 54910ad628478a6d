"""FLOPs and the share of the machine's matrix rate, against numbers by hand."""

import itertools

import pytest
import torch

from milan_mm.benchmark import matrix_rate
from milan_mm.benchmark.contest import Measurements
from milan_mm.benchmark.flop_count import count_flops
from milan_mm.benchmark.matrix_rate import compare_shares, product_entry


def test_compiled_code_is_counted_like_plain_code():
    a = torch.ones(2, 3)
    product = torch.compile(lambda b: a @ b)
    assert count_flops(product, torch.ones(3, 4)) == 2 * 2 * 3 * 4


def test_the_rate_is_flops_by_seconds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matrix_rate, "_PRODUCTS", dict(cpu=(8, 3), cuda=(8, 3)))
    clock = itertools.count(step=0.5)
    monkeypatch.setattr(matrix_rate, "now", lambda: next(clock))
    assert matrix_rate.matrix_rate("float32") == 3 * 2 * 8**3 / 0.5


def test_the_product_has_the_precision_that_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matrix_rate, "_PRODUCTS", dict(cpu=(8, 1), cuda=(8, 1)))
    seen = []
    monkeypatch.setattr(torch, "mm", lambda a, b, out: seen.append((a.dtype, b.dtype, out.dtype)))
    matrix_rate.prepare(**product_entry("bfloat16").settings)()
    assert seen == [(torch.bfloat16,) * 3]


def test_a_share_is_the_rate_of_a_step_by_that_of_the_product():
    flops = {"ours": 300, "peer": 400, product_entry("bfloat16").name: 1000}
    seconds = dict(zip(flops, (0.5, 1.0, 1.0), strict=True))
    measured = {name: Measurements(seconds=[time]) for name, time in seconds.items()}
    row = compare_shares("pretrain", "ViT-B/16", ("ours", "peer"), "bfloat16", measured, flops)
    assert (row.ours, row.peer, row.unit, row.gain) == (60, 40, "%", 1.5)
