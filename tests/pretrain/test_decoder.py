"""Decoders: against slow versions in image order, and against mmpretrain's MILAN decoder."""

import pytest
import torch
from mmpretrain.models.necks import MAEPretrainDecoder, MILANPretrainDecoder
from torch import Tensor

from milan_mm.pretrain.decoder import MAEDecoder, PretrainDecoder, PromptingDecoder
from tests.helpers import explicit_attention, random_split, tiny_decoder

CASES = pytest.mark.parametrize(
    ("batch_size", "grid", "num_keep"),
    [(2, (4, 4), 6), (1, (4, 4), 4), (2, (3, 5), 6), (1, (2, 7), 1)],
    ids=["ratio 0.6", "batch 1", "non-square", "one kept"],
)


def slow_embed(decoder: PretrainDecoder, latent: Tensor, ids_keep: Tensor) -> Tensor:
    """The sequence (1+L, E) of one image in image order, mask tokens filled in."""
    embedded = decoder.decoder_embed(latent)
    number_of_patches = decoder.grid_size[0] * decoder.grid_size[1]
    sequence = [embedded[0]]
    for number in range(number_of_patches):
        where = (ids_keep == number).nonzero()
        sequence.append(embedded[1 + where.item()] if len(where) else decoder.mask_token[0, 0])
    return torch.stack(sequence) + decoder.decoder_pos_embed[0]


def slow_prompting(decoder: PromptingDecoder, latent: Tensor, ids_keep: Tensor) -> Tensor:
    """One image; each layer puts the sequence back into image order, with explicit softmax."""
    x = slow_embed(decoder, latent, ids_keep)
    is_masked = torch.ones(len(x), dtype=torch.bool)
    is_masked[0] = False
    is_masked[1 + ids_keep] = False
    for block in decoder.decoder_blocks:
        masked = x[is_masked]
        keys = x.clone()
        keys[is_masked] = block.ln1(masked)  # prompts enter without the LayerNorm
        k, v = block.attn.kv(keys).chunk(2, dim=-1)
        q = block.attn.q(block.ln1(masked))
        masked = masked + block.attn.proj(explicit_attention(q, k, v, block.attn.num_heads))
        masked = masked + block.ffn.layers(block.ln2(masked))
        x = torch.where(
            is_masked.unsqueeze(1), x.clone().masked_scatter(is_masked[:, None], masked), x
        )
    return decoder.decoder_pred(decoder.decoder_norm(x))


def slow_mae(decoder: MAEDecoder, latent: Tensor, ids_keep: Tensor) -> Tensor:
    """One image; ordinary blocks over the sequence in image order, with explicit softmax."""
    x = slow_embed(decoder, latent, ids_keep)
    for block in decoder.decoder_blocks:
        q, k, v = block.attn.qkv(block.ln1(x)).chunk(3, dim=-1)
        x = x + block.attn.proj(explicit_attention(q, k, v, block.attn.num_heads))
        x = x + block.ffn.layers(block.ln2(x))
    return decoder.decoder_pred(decoder.decoder_norm(x))


def load_into_mmpretrain(theirs: torch.nn.Module, ours: PretrainDecoder) -> None:
    """Give mmpretrain's decoder our weights, whose last norm is called differently."""
    renamed = {n.replace("decoder_norm", "ln1"): t for n, t in ours.state_dict().items()}
    theirs.load_state_dict(renamed, strict=True)
    for module in theirs.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6  # torch's default stands in mmpretrain's blocks


@CASES
@pytest.mark.parametrize(
    ("kind", "slow"), [(PromptingDecoder, slow_prompting), (MAEDecoder, slow_mae)]
)
def test_outputs_and_gradients_equal_the_slow_decoder(kind, slow, batch_size, grid, num_keep):
    decoder = tiny_decoder(kind, grid)
    ids_keep, ids_mask = random_split(batch_size, grid[0] * grid[1], num_keep)
    latent = torch.randn(batch_size, 1 + num_keep, 48, requires_grad=True)
    weights = torch.randn(batch_size, 1 + grid[0] * grid[1], 20)
    trained = [latent, *(p for p in decoder.parameters() if p.requires_grad)]

    out = decoder(latent, ids_keep, ids_mask)
    expected = torch.stack([slow(decoder, latent[b], ids_keep[b]) for b in range(batch_size)])
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad((out * weights).sum(), trained)
    slow_gradients = torch.autograd.grad((expected * weights).sum(), trained)
    for gradient, slow_gradient in zip(gradients, slow_gradients, strict=True):
        torch.testing.assert_close(gradient, slow_gradient, rtol=1e-4, atol=1e-4)


def test_prompting_decoder_equals_the_one_of_mmpretrain():
    ours = tiny_decoder(PromptingDecoder, (4, 4))
    theirs = MILANPretrainDecoder(
        num_patches=16,
        embed_dim=48,
        decoder_embed_dim=32,
        decoder_depth=2,
        decoder_num_heads=4,
        predict_feature_dim=20,
    )
    load_into_mmpretrain(theirs, ours)
    ids_keep, ids_mask = random_split(2, 16, 4)
    ids_restore = torch.cat([ids_keep, ids_mask], dim=1).argsort(dim=1)
    latent = torch.randn(2, 5, 48)
    torch.testing.assert_close(
        ours(latent, ids_keep, ids_mask),
        theirs(latent, ids_restore, ids_keep, ids_mask),
        rtol=1e-5,
        atol=1e-5,
    )


def test_mae_decoder_equals_the_one_of_mmpretrain():
    ours = tiny_decoder(MAEDecoder, (4, 4), target_dims=3 * 64)
    theirs = MAEPretrainDecoder(
        num_patches=16,
        patch_size=8,
        embed_dim=48,
        decoder_embed_dim=32,
        decoder_depth=2,
        decoder_num_heads=4,
    )
    load_into_mmpretrain(theirs, ours)
    ids_keep, ids_mask = random_split(2, 16, 4)
    ids_restore = torch.cat([ids_keep, ids_mask], dim=1).argsort(dim=1)
    latent = torch.randn(2, 5, 48)
    # theirs drops the class token from the prediction
    expected = theirs(latent, ids_restore)
    torch.testing.assert_close(
        ours(latent, ids_keep, ids_mask)[:, 1:], expected, rtol=1e-5, atol=1e-5
    )


def test_prompting_decoder_never_changes_the_kept_tokens():
    decoder = tiny_decoder(PromptingDecoder, (4, 4))
    ids_keep, ids_mask = random_split(2, 16, 4)
    latent = torch.randn(2, 5, 48)
    out = decoder(latent, ids_keep, ids_mask)
    decoder.decoder_blocks = torch.nn.ModuleList()
    untouched = decoder(latent, ids_keep, ids_mask)
    for b in range(2):
        kept = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + ids_keep[b]])
        assert torch.equal(out[b, kept], untouched[b, kept])
        assert not torch.isclose(out[b, 1 + ids_mask[b]], untouched[b, 1 + ids_mask[b]]).all()


def test_mae_decoder_updates_the_kept_tokens():
    decoder = tiny_decoder(MAEDecoder, (4, 4))
    ids_keep, ids_mask = random_split(1, 16, 4)
    latent = torch.randn(1, 5, 48)
    out = decoder(latent, ids_keep, ids_mask)
    decoder.decoder_blocks = torch.nn.ModuleList()
    assert not torch.isclose(out, decoder(latent, ids_keep, ids_mask)).all(dim=-1).any()


@pytest.mark.parametrize("kind", [PromptingDecoder, MAEDecoder])
def test_decoder_output_ignores_key_order(kind):
    decoder = tiny_decoder(kind, (4, 4))
    ids_keep, ids_mask = random_split(1, 16, 6)
    latent = torch.randn(1, 7, 48)
    out = decoder(latent, ids_keep, ids_mask)
    keep_order, mask_order = torch.randperm(6), torch.randperm(10)
    shuffled_latent = torch.cat([latent[:, :1], latent[:, 1:][:, keep_order]], dim=1)
    shuffled = decoder(shuffled_latent, ids_keep[:, keep_order], ids_mask[:, mask_order])
    torch.testing.assert_close(shuffled, out, rtol=1e-5, atol=1e-5)


def test_position_table_is_fixed():
    assert not tiny_decoder(PromptingDecoder, (2, 2)).decoder_pos_embed.requires_grad


def test_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="decoder_embed_dims 32 is not a multiple of 5 heads"):
        tiny_decoder(PromptingDecoder, (2, 2), num_heads=5)
