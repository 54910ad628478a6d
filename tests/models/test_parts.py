"""Every newer part in every situation: the numbers are those of the plain forward pass."""

import copy
import re
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from milan_mm.encoder.loading import build
from milan_mm.engine.hooks.compiling import compile_parts
from milan_mm.engine.optim import LayerDecayOptimWrapperConstructor
from milan_mm.engine.sharding import FullySharded
from milan_mm.weights.exporting import export_encoder
from milan_mm.weights.recognising import read_encoder
from tests.helpers import save_state
from tests.models.parts import PARTS, checkpoint_of, vit_of

every_part = pytest.mark.parametrize("part", PARTS)
# Several parts in one, where a test takes its time.
combined = pytest.mark.parametrize("part", ["AIMv2", "EVA-02-CLIP", "DINOv3"])
close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32)


def step(model: torch.nn.Module, imgs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output and gradients of a training step."""
    model.zero_grad()
    (out,) = model(imgs)
    out.square().mean().backward()
    return out.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@every_part
def test_all_patches_in_order_are_the_whole_image_and_any_order_gives_the_same(part: str):
    vit, imgs = vit_of(part, out_type="raw"), images()
    (expected,) = vit(imgs)
    order = torch.rand(2, 16).argsort(dim=1)
    close(vit.encode(vit.embed(imgs)), expected)
    found = vit.encode(vit.embed(imgs, order), order)
    num_prefix = vit.num_prefix_tokens
    close(found[:, :num_prefix], expected[:, :num_prefix])
    for ours, theirs, ids in zip(found, expected, order, strict=True):
        close(ours[num_prefix:], theirs[num_prefix:][ids])


@every_part
def test_kept_patches_are_encoded_as_if_nobody_looked_at_the_others(
    part: str, monkeypatch: pytest.MonkeyPatch
):
    vit, imgs = vit_of(part, out_type="raw"), images()
    ids = torch.rand(2, 16).argsort(dim=1)[:, :5]
    found = vit.encode(vit.embed(imgs, ids), ids)
    seen = torch.ones(2, vit.num_prefix_tokens, dtype=torch.bool)
    seen = torch.cat([seen, torch.zeros(2, 16, dtype=torch.bool).scatter(1, ids, True)], dim=1)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None])

    monkeypatch.setattr("milan_mm.models.attention.attend", attend)
    (whole,) = vit(imgs)
    for ours, theirs, kept in zip(found, whole, ids, strict=True):
        rows = torch.arange(vit.num_prefix_tokens)
        close(ours, theirs[torch.cat([rows, kept + vit.num_prefix_tokens])])


@combined
def test_a_compiled_step_is_the_same_step(part: str, monkeypatch: pytest.MonkeyPatch):
    graphs = []

    def note(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=note, fullgraph=True))
    monkeypatch.setattr("milan_mm.torch_private.CPU_ATTENTION", "missing")  # as on GPUs
    vit, imgs = vit_of(part, qk_norm=True).train(), images()
    expected = step(vit, imgs)
    compile_parts(vit)
    close(step(vit, imgs), expected)
    assert len(graphs) == 2  # the embedding, and one for all blocks
    torch.compiler.reset()


@combined
def test_a_spread_model_takes_the_same_step(part: str, one_process: None):
    vit, imgs = vit_of(part, qk_norm=True).train(), images()
    spread = FullySharded(copy.deepcopy(vit))
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2) for m in (vit, spread.module)]
    spread.shard(optimizers[1:])
    for model, optimizer in zip((vit, spread), optimizers, strict=True):
        for _ in range(2):
            model(imgs)[0].square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    with spread.whole_states([]):
        close(dict(spread.module.state_dict()), dict(vit.state_dict()))


def depth_of_mae(name: str) -> int:
    """What MAE's, BEiT's and DINOv2's finetuning do with names, of 3 blocks here."""
    if re.match(r"cls_token|register_tokens|pos_embed|patch_embed|pre_norm", name):
        return 0
    block = re.match(r"layers\.(\d+)\.", name)
    return int(block[1]) + 1 if block else 4


@every_part
def test_each_parameter_learns_once_at_the_rate_of_its_depth(part: str):
    vit = vit_of(part)
    settings = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.1))
    rules = dict(layer_decay_rate=0.5, no_decay_1d=True)
    groups = LayerDecayOptimWrapperConstructor(settings, rules)(vit).optimizer.param_groups
    found = [(id(p), g["lr"], g["weight_decay"]) for g in groups for p in g["params"]]
    expected = [
        (id(p), 0.5 ** (4 - depth_of_mae(name)), 0.1 * (p.ndim > 1))
        for name, p in vit.named_parameters()
    ]
    assert sorted(found) == sorted(expected)


@every_part
def test_a_block_whose_branches_are_dropped_passes_its_input_on(part: str):
    vit = vit_of(part, drop_path_rate=0.5, out_type="raw")
    block, x = vit.layers[2], torch.randn(2, vit.num_prefix_tokens + 16, 48)
    rope = vit.rotary((4, 4))
    for parameter in block.ffn.layers[1].parameters():
        torch.nn.init.zeros_(parameter)  # so attention is all that the block adds
    added = block.eval()(x, (4, 4), rope) - x
    found = block.train()(x, (4, 4), rope, torch.tensor([[0.99, 0.0], [0.0, 0.0]]))
    close(found[0], x[0] + 2 * added[0])  # of the image that is kept, with probability 0.5
    assert torch.equal(found[1], x[1])


@every_part
@pytest.mark.parametrize("file", ["training", "exported", "half", "saved"])
def test_a_checkpoint_and_an_exported_encoder_are_read_as_what_they_are(
    part: str, file: str, tmp_path: Path
):
    vit, content = checkpoint_of(part)
    atol = 1e-2 if file == "half" else 1e-5
    path = save_state(content, tmp_path)
    if file != "training":
        source, path = path, tmp_path / "encoder.safetensors"
        if file == "saved":
            mine = build(read_encoder(source), img_size=64)
            source.unlink()
            mine.save(path)
        else:
            export_encoder(read_encoder(source), path, half=file == "half")
    encoder = build(read_encoder(path))
    imgs = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = vit.eval().tokens_after(imgs, [2])[2]
        tokens = encoder.intermediate(imgs, [2], norm=False)[0]
        close(tokens.patch_tokens, expected[:, vit.num_prefix_tokens :], atol=atol)
        if vit.options.pool_heads:
            close(encoder.vit.attn_pool(encoder.vit(imgs)[0]), vit(imgs)[0], atol=atol)
