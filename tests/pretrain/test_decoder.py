"""Decoders: against mmpretrain's, and what they change. Slow versions: test_parity.py."""

import pytest
import torch
from mmpretrain.models.necks import MAEPretrainDecoder, MILANPretrainDecoder

from milan_mm.models.attention import attend
from milan_mm.pretrain.decoder import (
    MAEDecoder,
    PretrainDecoder,
    PromptingAttention,
    PromptingDecoder,
)
from tests.helpers import random_split, tiny_decoder


def load_into_mmpretrain(theirs: torch.nn.Module, ours: PretrainDecoder) -> None:
    """Give mmpretrain's decoder our weights, whose last norm is called differently."""
    renamed = {n.replace("decoder_norm", "ln1"): t for n, t in ours.state_dict().items()}
    theirs.load_state_dict(renamed, strict=True)
    for module in theirs.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6  # torch's default stands in mmpretrain's blocks


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


def test_rounding_once_is_rounding_for_each_linear_layer():
    attn = PromptingAttention(16, num_heads=2)
    masked, prompts = torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = attn(masked, prompts)
        q = attn.q(masked).unflatten(2, (2, -1)).transpose(1, 2)
        kv = attn.kv(torch.cat([prompts, masked], dim=1)).unflatten(2, (2, 2, -1))
        k, v = kv.permute(2, 0, 3, 1, 4)
        expected = attn.proj(attend(q, k, v).transpose(1, 2).flatten(2))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
