"""Parity: every part of MILAN, and the whole step, against slow versions of the paper's formulas.

The slow versions compute one image at a time in float64, as lists of tokens in image order, with
loops over tokens and heads. They read the weights by name and call no layer of the package. Outputs
may differ by 1e-5; a gradient by 1e-4, and by 1e-4 of the largest value of its tensor.
"""

import itertools
import json
import math
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from milan_mm.pretrain.decoder import MAEDecoder, PromptingDecoder
from milan_mm.pretrain.masking import (
    SemanticMaskGenerator,
    UniformMaskGenerator,
    gumbel_noise,
)
from milan_mm.pretrain.targets import CLIPTargetHead
from milan_mm.pretrain.teacher import HiddenTeacher
from milan_mm.pretrain.teacher_clip import CLIPTeacher
from milan_mm.registry import MODELS
from tests.helpers import (
    milan_config,
    random_split,
    randomise,
    teacher_settings,
    tiny_decoder,
    tiny_vit,
)

Weights = dict[str, Tensor]

each_size = pytest.mark.parametrize(
    ("batch_size", "grid", "num_keep"),
    [(2, (4, 4), 4), (1, (3, 5), 6), (2, (5, 3), 6), (1, (2, 7), 1)],
    ids=["square", "mask ratio 0.6 and batch 1", "not square", "one kept"],
)


# The formulas, token by token


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def norm(x: Tensor, weights: Weights, name: str, eps: float = 1e-6) -> Tensor:
    centred = x - x.mean()
    normed = centred / (centred.square().mean() + eps).sqrt()
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def quick_gelu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-1.702 * x))


def attend(query: Tensor, keys: list[Tensor], values: list[Tensor], num_heads: int):
    """One query (E,) asks all keys: the answer (E,), and what each head pays to each key (A, N)."""
    dims = len(query) // num_heads
    answers, maps = [], []
    for head in range(num_heads):
        part = slice(head * dims, (head + 1) * dims)
        scores = [torch.exp(query[part] @ key[part] / math.sqrt(dims)) for key in keys]
        attention = [score / sum(scores) for score in scores]
        answers.append(sum(a * value[part] for a, value in zip(attention, values, strict=True)))
        maps.append(torch.stack(attention))
    return torch.cat(answers), torch.stack(maps)


def feed_forward(x: Tensor, weights: Weights) -> Tensor:
    return linear(gelu(linear(x, weights, "ffn.layers.0.0")), weights, "ffn.layers.1")


def slow_block(tokens: list[Tensor], weights: Weights, num_heads: int) -> list[Tensor]:
    """All tokens ask all tokens, then the MLP; both behind a norm and beside a shortcut."""
    qkv = [linear(norm(x, weights, "ln1"), weights, "attn.qkv").chunk(3) for x in tokens]
    queries, keys, values = zip(*qkv, strict=True)
    out = []
    for x, query in zip(tokens, queries, strict=True):
        x = x + linear(attend(query, keys, values, num_heads)[0], weights, "attn.proj")
        out.append(x + feed_forward(norm(x, weights, "ln2"), weights))
    return out


def cut_patches(img: Tensor, patch_size: int) -> list[Tensor]:
    """(3, H, W) to its patches (3, p, p), row by row."""
    p = patch_size
    tops, lefts = range(0, img.shape[1], p), range(0, img.shape[2], p)
    return [img[:, top : top + p, left : left + p] for top in tops for left in lefts]


def slow_encoder(img: Tensor, kept: list[int], weights: Weights, vit: nn.Module) -> list[Tensor]:
    """Class token and kept patches of one image."""
    patches = cut_patches(img, vit.patch_size)
    tokens = [weights["cls_token"][0, 0] + weights["pos_embed"][0, 0]]
    for number in kept:
        kernels = weights["patch_embed.projection.weight"]
        embedded = torch.stack([(patches[number] * kernel).sum() for kernel in kernels])
        embedded = embedded + weights["patch_embed.projection.bias"]
        tokens.append(embedded + weights["pos_embed"][0, 1 + number])
    for i in range(vit.num_layers):
        tokens = slow_block(tokens, below(weights, f"layers.{i}"), vit.layers[i].attn.num_heads)
    return [norm(x, weights, "ln1") for x in tokens]


def slow_decoder_input(latent: list[Tensor], kept: list[int], weights: Weights) -> list[Tensor]:
    """Class token, then every patch in image order: what the encoder says of it, or mask token."""
    positions = weights["decoder_pos_embed"][0]
    tokens = [linear(latent[0], weights, "decoder_embed") + positions[0]]
    for number in range(len(positions) - 1):
        if number in kept:
            token = linear(latent[1 + kept.index(number)], weights, "decoder_embed")
        else:
            token = weights["mask_token"][0, 0]
        tokens.append(token + positions[1 + number])
    return tokens


def slow_prompting_decoder(
    latent: list[Tensor], kept: list[int], weights: Weights, num_layers: int, num_heads: int
) -> list[Tensor]:
    """Only mask tokens ask and change; only they are normalised where keys and values are made."""
    tokens = slow_decoder_input(latent, kept, weights)
    is_masked = [place > 0 and place - 1 not in kept for place in range(len(tokens))]
    for i in range(num_layers):
        block = below(weights, f"decoder_blocks.{i}")
        entering = [
            norm(x, block, "ln1") if masked else x
            for x, masked in zip(tokens, is_masked, strict=True)
        ]
        kv = [linear(x, block, "attn.kv").chunk(2) for x in entering]
        keys, values = zip(*kv, strict=True)
        updated = list(tokens)
        for place in range(len(tokens)):
            if is_masked[place]:
                query = linear(entering[place], block, "attn.q")
                answer, _ = attend(query, keys, values, num_heads)
                x = tokens[place] + linear(answer, block, "attn.proj")
                updated[place] = x + feed_forward(norm(x, block, "ln2"), block)
        tokens = updated
    return [linear(norm(x, weights, "decoder_norm"), weights, "decoder_pred") for x in tokens]


def slow_mae_decoder(
    latent: list[Tensor], kept: list[int], weights: Weights, num_layers: int, num_heads: int
) -> list[Tensor]:
    """Ordinary blocks over all tokens."""
    tokens = slow_decoder_input(latent, kept, weights)
    for i in range(num_layers):
        tokens = slow_block(tokens, below(weights, f"decoder_blocks.{i}"), num_heads)
    return [linear(norm(x, weights, "decoder_norm"), weights, "decoder_pred") for x in tokens]


def slow_teacher(img: Tensor, weights: Weights, visual: nn.Module, act) -> tuple:
    """Features of all tokens, and the last block's class attention (L,), of open_clip's tower."""
    patches = cut_patches(img, visual.patch_size[0])
    positions = weights["positional_embedding"]
    tokens = [weights["class_embedding"] + positions[0]]
    for number, patch in enumerate(patches):
        embedded = torch.stack([(patch * kernel).sum() for kernel in weights["conv1.weight"]])
        tokens.append(embedded + positions[1 + number])
    tokens = [norm(x, weights, "ln_pre", 1e-5) for x in tokens]
    for i, module in enumerate(visual.transformer.resblocks):
        block = below(weights, f"transformer.resblocks.{i}")
        block["attn.in_proj.weight"] = block["attn.in_proj_weight"]
        block["attn.in_proj.bias"] = block["attn.in_proj_bias"]
        qkv = [linear(norm(x, block, "ln_1", 1e-5), block, "attn.in_proj").chunk(3) for x in tokens]
        queries, keys, values = zip(*qkv, strict=True)
        answers = [attend(query, keys, values, module.attn.num_heads) for query in queries]
        class_attention = answers[0][1]  # (A, 1+L)
        tokens = [
            x + linear(answer, block, "attn.out_proj")
            for x, (answer, _) in zip(tokens, answers, strict=True)
        ]
        hidden = [act(linear(norm(x, block, "ln_2", 1e-5), block, "mlp.c_fc")) for x in tokens]
        tokens = [x + linear(y, block, "mlp.c_proj") for x, y in zip(tokens, hidden, strict=True)]
    features = [norm(x, weights, "ln_post", 1e-5) @ weights["proj"] for x in tokens]
    return features, sum(class_attention[:, 1:]) / len(class_attention)


def slow_clip_loss(pred: list[Tensor], target: list[Tensor]) -> Tensor:
    """Squared distance of the normalised vectors, mean over the tokens."""
    distances = []
    for p, t in zip(pred, target, strict=True):
        difference = p / p.square().sum().sqrt() - t / t.square().sum().sqrt()
        distances.append(difference.square().sum())
    return sum(distances) / len(distances)


def slow_pixel_loss(pred: list[Tensor], img: Tensor, kept: list[int], patch_size: int) -> Tensor:
    """Squared error of the normalised pixels of the masked patches; red, green, blue alternate."""
    errors = []
    for number, patch in enumerate(cut_patches(img, patch_size)):
        if number not in kept:
            pixels = torch.cat(
                [patch[:, y, x] for y in range(patch_size) for x in range(patch_size)]
            )
            pixels = pixels - pixels.mean()
            variance = pixels.square().sum() / (len(pixels) - 1)  # unbiased
            pixels = pixels / (variance + 1e-6).sqrt()
            errors.append((pred[1 + number] - pixels).square().mean())
    return sum(errors) / len(errors)


def slow_kept(importance: Tensor, noise: Tensor, num_keep: int) -> list[int]:
    """Patches arrive at random times, on average sooner where important; the first are kept.

    exp(-noise) is exponentially distributed. The next to arrive is patch i with probability
    w_i / W, where W sums over those still to come: successive draws without replacement.
    """
    waiting = {i: math.exp(-noise[i]) / importance[i].item() for i in range(len(importance))}
    kept = []
    for _ in range(num_keep):
        kept.append(min(waiting, key=waiting.__getitem__))
        del waiting[kept[-1]]
    return kept


# Comparing


def below(weights: Weights, prefix: str) -> Weights:
    """The entries of one module, under their names inside it."""
    prefix += "."
    return {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}


def in_float64(module: nn.Module) -> Weights:
    """Copies of all parameters, by name; trainable ones take gradients of their own."""
    return {
        name: parameter.detach().double().requires_grad_(parameter.requires_grad)
        for name, parameter in module.named_parameters()
    }


def sharpen(module: nn.Module) -> nn.Module:
    """Make attention depend on the tokens; freshly initialised it is nearly uniform."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("qkv.weight", "attn.q.weight", "kv.weight", "in_proj_weight")):
                parameter.mul_(3)
    return module


def assert_equal_outputs(out: Tensor, slow: list[list[Tensor]]) -> None:
    """out: (B, N, C); slow: B lists of N tensors (C,)."""
    expected = torch.stack([torch.stack(tokens) for tokens in slow])
    assert expected.std() > 0.1  # otherwise 1e-5 would be generous
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)


def assert_equal_gradients(
    loss: Tensor, slow_loss: Tensor, fast: Weights, slow: Weights, inputs: tuple[Tensor, Tensor]
) -> None:
    """Of every trainable parameter and of the input; each gradient counts, none is zero."""
    names = ["input", *(name for name, t in slow.items() if t.requires_grad)]
    leaves = [inputs[0], *(fast[name] for name in names[1:])]
    slow_leaves = [inputs[1], *(slow[name] for name in names[1:])]
    gradients = torch.autograd.grad(loss, leaves)
    expected = torch.autograd.grad(slow_loss, slow_leaves)
    assert len(leaves) == 1 + sum(t.requires_grad for t in fast.values())
    for name, gradient, exact in zip(names, gradients, expected, strict=True):
        largest = exact.abs().max().item()
        assert largest > 0, name
        difference = (gradient - exact).abs().max().item()
        assert difference <= 1e-4 * min(1.0, largest), name


# Masking


def probability_of_sets(weights: list[float], num_keep: int) -> dict[tuple[int, ...], float]:
    """Of every set that successive draws without replacement can keep, by enumeration."""
    probabilities: dict[tuple[int, ...], float] = {}
    for order in itertools.permutations(range(len(weights)), num_keep):
        probability, left = 1.0, sum(weights)
        for patch in order:
            probability *= weights[patch] / left
            left -= weights[patch]
        kept = tuple(sorted(order))
        probabilities[kept] = probabilities.get(kept, 0.0) + probability
    return probabilities


@pytest.mark.parametrize("kind", [SemanticMaskGenerator, UniformMaskGenerator])
def test_every_set_is_kept_as_often_as_successive_draws_keep_it(kind):
    weights = [0.40, 0.25, 0.15, 0.10, 0.07, 0.03]
    draws = 40_000
    importance = torch.tensor(weights).expand(draws, -1)
    ids_keep, _ = kind(mask_ratio=0.5)(torch.empty(draws), 6, importance)
    exact = probability_of_sets(weights if kind is SemanticMaskGenerator else [1.0] * 6, 3)
    assert len(exact) == 20
    assert sum(exact.values()) == pytest.approx(1)
    counts = dict.fromkeys(exact, 0)
    for kept in ids_keep.sort(dim=1).values.tolist():
        counts[tuple(kept)] += 1
    chi_square = sum((counts[s] - draws * p) ** 2 / (draws * p) for s, p in exact.items())
    degrees = len(exact) - 1
    assert chi_square < degrees + 4 * math.sqrt(2 * degrees)  # 4 sigma


# Parts


@each_size
def test_encoder_equals_the_slow_encoder(batch_size, grid, num_keep):
    vit = sharpen(tiny_vit(img_size=(8 * grid[0], 8 * grid[1])))
    ids_keep, _ = random_split(batch_size, grid[0] * grid[1], num_keep)
    imgs = torch.randn(batch_size, 3, 8 * grid[0], 8 * grid[1], requires_grad=True)
    out = vit.encode(vit.embed(imgs, ids_keep))
    weights, slow_imgs = in_float64(vit), imgs.detach().double().requires_grad_()
    slow = [
        slow_encoder(slow_imgs[b], ids_keep[b].tolist(), weights, vit) for b in range(batch_size)
    ]
    assert_equal_outputs(out, slow)
    mix = torch.randn(1 + num_keep, 48)
    slow_loss = sum((torch.stack(tokens) * mix).mean() for tokens in slow) / batch_size
    assert_equal_gradients(
        (out * mix).mean(), slow_loss, dict(vit.named_parameters()), weights, (imgs, slow_imgs)
    )


@each_size
@pytest.mark.parametrize(
    ("kind", "slow_decoder"),
    [(PromptingDecoder, slow_prompting_decoder), (MAEDecoder, slow_mae_decoder)],
)
def test_decoder_equals_the_slow_decoder(kind, slow_decoder, batch_size, grid, num_keep):
    decoder = sharpen(tiny_decoder(kind, grid))
    ids_keep, ids_mask = random_split(batch_size, grid[0] * grid[1], num_keep)
    latent = torch.randn(batch_size, 1 + num_keep, 48, requires_grad=True)
    out = decoder(latent, ids_keep, ids_mask)
    weights, slow_latent = in_float64(decoder), latent.detach().double().requires_grad_()
    slow = [
        slow_decoder(list(slow_latent[b]), ids_keep[b].tolist(), weights, 2, 4)
        for b in range(batch_size)
    ]
    assert_equal_outputs(out, slow)
    mix = torch.randn(1 + grid[0] * grid[1], 20)
    slow_loss = sum((torch.stack(tokens) * mix).mean() for tokens in slow) / batch_size
    assert_equal_gradients(
        (out * mix).mean(),
        slow_loss,
        dict(decoder.named_parameters()),
        weights,
        (latent, slow_latent),
    )


@pytest.fixture(scope="module")
def clip_names(tmp_path_factory) -> dict[str, str]:
    """Tiny towers on 3x5 patches of 8 pixels, known to open_clip, by their activation."""
    folder = tmp_path_factory.mktemp("open_clip")
    names = {"GELU": "parity", "QuickGELU": "parity-quickgelu"}
    for activation, name in names.items():
        config = dict(
            embed_dim=20,
            quick_gelu=activation == "QuickGELU",
            vision_cfg=dict(image_size=[24, 40], patch_size=8, layers=3, width=32, head_width=8),
            text_cfg=dict(context_length=8, vocab_size=10, width=16, heads=2, layers=1),
        )
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return names


def saved_clip(name: str, folder: Path) -> tuple[nn.Module, str]:
    """The image tower of a CLIP with random weights, and their file."""
    clip = open_clip.create_model(name)
    visual = sharpen(randomise(clip.visual))
    save_file(clip.state_dict(), folder / "clip.safetensors")
    return visual, str(folder / "clip.safetensors")


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(("activation", "act"), [("GELU", gelu), ("QuickGELU", quick_gelu)])
def test_teacher_equals_the_slow_teacher(activation, act, batch_size, clip_names, tmp_path):
    visual, file = saved_clip(clip_names[activation], tmp_path)
    clip = CLIPTeacher(**teacher_settings(file, model_name=clip_names[activation]))
    imgs = torch.randn(batch_size, 3, 24, 40)
    features, importance = HiddenTeacher(clip)(imgs)
    weights = in_float64(visual)
    slow = [slow_teacher(img, weights, visual, act) for img in imgs.double()]
    assert_equal_outputs(features, [tokens for tokens, _ in slow])
    expected = torch.stack([class_attention for _, class_attention in slow])
    torch.testing.assert_close(importance.double(), expected, rtol=0, atol=1e-5)
    assert expected.std() > 1e-2  # far from uniform, which would be 1/16


@pytest.mark.parametrize("batch_size", [1, 3])
def test_clip_loss_equals_the_slow_loss(batch_size, clip_names):
    head = CLIPTargetHead(teacher_settings(model_name=clip_names["GELU"]))
    pred = torch.randn(batch_size, 16, 20, requires_grad=True)
    target = torch.randn(batch_size, 16, 20)
    _, ids_mask = random_split(batch_size, 15, num_keep=6)
    loss = head.loss(pred, target, ids_mask)
    exact = pred.detach().double().requires_grad_()
    slow = [slow_clip_loss(list(exact[b]), list(target[b].double())) for b in range(batch_size)]
    slow_loss = sum(slow) / batch_size
    assert loss.item() == pytest.approx(slow_loss.item(), rel=0, abs=1e-5)
    assert_equal_gradients(loss, slow_loss, {}, {}, (pred, exact))


# The whole step


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(
    ("mask_generator", "decoder", "head"),
    [
        ("SemanticMaskGenerator", "PromptingDecoder", "CLIPTargetHead"),
        ("SemanticMaskGenerator", "MAEDecoder", "CLIPTargetHead"),
        ("UniformMaskGenerator", "MAEDecoder", "PixelTargetHead"),
    ],
    ids=["MILAN", "MILAN with the MAE decoder", "MAE"],
)
def test_step_equals_the_slow_step(mask_generator, decoder, head, batch_size, clip_names, tmp_path):
    config = milan_config(mask_generator, decoder, head)
    config["backbone"]["img_size"] = (24, 40)
    config["decoder"]["grid_size"] = (3, 5)
    config["mask_generator"]["mask_ratio"] = 0.6
    is_clip = head == "CLIPTargetHead"
    if is_clip:
        visual, file = saved_clip(clip_names["GELU"], tmp_path)
        config["head"]["teacher"] |= dict(model_name=clip_names["GELU"], pretrained=file)
        config["decoder"]["target_dims"] = 20
    model = sharpen(randomise(MODELS.build(config))).train()
    weights = in_float64(model)
    encoder_weights, decoder_weights = below(weights, "backbone"), below(weights, "decoder")
    slow_decoder = slow_prompting_decoder if decoder == "PromptingDecoder" else slow_mae_decoder
    if is_clip:
        teacher_weights = in_float64(visual)

    imgs = torch.randn(batch_size, 3, 24, 40, requires_grad=True)
    torch.manual_seed(1)
    loss = model.loss(imgs)["loss"]

    torch.manual_seed(1)
    noise = gumbel_noise(batch_size, 15, imgs.device).double()
    slow_imgs = imgs.detach().double().requires_grad_()
    losses = []
    for b in range(batch_size):
        importance = torch.ones(15)
        if is_clip:
            target, importance = slow_teacher(slow_imgs[b].detach(), teacher_weights, visual, gelu)
        kept = slow_kept(importance, noise[b], num_keep=6)
        latent = slow_encoder(slow_imgs[b], kept, encoder_weights, model.backbone)
        pred = slow_decoder(latent, kept, decoder_weights, num_layers=2, num_heads=4)
        if is_clip:
            losses.append(slow_clip_loss(pred, target))
        else:
            losses.append(slow_pixel_loss(pred, slow_imgs[b], kept, patch_size=8))
    slow_loss = sum(losses) / batch_size
    assert loss.item() == pytest.approx(slow_loss.item(), rel=0, abs=1e-5)
    assert_equal_gradients(
        loss, slow_loss, dict(model.named_parameters()), weights, (imgs, slow_imgs)
    )
