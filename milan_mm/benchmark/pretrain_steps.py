"""The two contestants of `benchmark.py pretrain`: our training step, and that of mmpretrain.

Both are built from their shipped recipes and take whole steps: preprocessing, teacher, encoder,
decoder, loss, backward, optimizer. They start from the same weights, see the same images and draw
the same random numbers for their masks, so their losses must agree.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.models import MILANViT
from torch import Tensor, nn

from milan_mm.benchmark.contest import default_device
from milan_mm.configs import load
from milan_mm.engine.hooks.compiling import compile_parts
from milan_mm.registry import MODELS
from milan_mm.run.silence import silence
from milan_mm.weights.converting import convert_state_dict

OURS = "pretrain/milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"
MMPRETRAIN = "mmpretrain::milan/milan_vit-base-p16_16xb256-amp-coslr-400e_in1k.py"
# The recipes warm up. At their full rate from the first step, rounding would show in the losses.
LR = 2.4e-4
OPTIM_WRAPPERS = dict(  # by precision, the last two by autocast
    float32="OptimWrapper",
    bfloat16="milan_mm.BFloat16OptimWrapper",
    float16="AmpOptimWrapper",  # for GPUs only
)
STUDENT, TEACHER = "student.pth", "teacher.pth"  # files of `write_weights`

Step = Callable[[], float]


def our_config(arch: dict, teacher: str, pretrained: str) -> Config:
    """Our recipe with an encoder and a CLIP of these sizes.

    Args:
        arch: `embed_dims`, `num_layers` and `num_heads` of the encoder.
        teacher: An architecture of open_clip with 14x14 patches.
        pretrained: See `CLIPTeacher`.
    """
    config = load(OURS)
    config.model.backbone.arch = arch
    config.model.decoder.embed_dims = arch["embed_dims"]
    config.model.head.teacher.update(model_name=teacher, pretrained=pretrained)
    target_dims = open_clip.get_model_config(teacher)["embed_dim"]
    config.model.decoder.target_dims = target_dims
    return config


def build_step(
    config: Config, precision: str, device: torch.device
) -> tuple[BaseModel, OptimWrapper]:
    """Model and optimizer of a recipe, ready to train.

    Args:
        config: A pretraining recipe. precision: A key of `OPTIM_WRAPPERS`. device: Of the model.
    """
    with silence(), DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model).to(device).train()
        wrapper = config.optim_wrapper | dict(type=OPTIM_WRAPPERS[precision])
        return model, build_optim_wrapper(model, wrapper)


def write_weights(folder: Path, arch: dict, teacher: str) -> None:
    """Write random weights to `folder`, from which all contestants start."""
    torch.manual_seed(0)
    with silence():
        clip = open_clip.create_model(teacher)
        torch.save(clip.state_dict(), folder / TEACHER)
        model = MODELS.build(our_config(arch, teacher, str(folder / TEACHER)).model)
        torch.save(model.state_dict(), folder / STUDENT)


def prepare_ours(
    folder: str,
    arch: dict,
    teacher: str,
    batch_size: int,
    precision: str,
    compiled: bool = False,
) -> Step:
    """Our recipe.

    Args:
        folder: See `write_weights`. arch, teacher: See `our_config`.
        batch_size: Images of a step.
        precision: A key of `OPTIM_WRAPPERS`.
        compiled: Whether the parts of the step run compiled, see `compile_parts`.

    Returns:
        A training step, which returns its loss.
    """
    model, optim_wrapper = build_ours(folder, arch, teacher, precision, compiled)
    return _make_step(model, optim_wrapper, batch_size)


def build_ours(
    folder: str, arch: dict, teacher: str, precision: str, compiled: bool = False
) -> tuple[BaseModel, OptimWrapper]:
    """Model and optimizer of `prepare_ours`."""
    config = our_config(arch, teacher, f"{folder}/{TEACHER}")
    config.optim_wrapper.optimizer.lr = LR
    model, optim_wrapper = build_step(config, precision, default_device())
    model.load_state_dict(torch.load(f"{folder}/{STUDENT}"))
    if compiled:
        compile_parts(model)
    return model, optim_wrapper


def prepare_mmpretrain(
    folder: str, arch: dict, teacher: str, batch_size: int, precision: str
) -> Step:
    """mmpretrain's recipe, with the width of its decoder's input corrected, or it could not run.

    Arguments as in `prepare_ours`.
    """
    config = get_config(MMPRETRAIN)
    width = arch["embed_dims"]
    config.model.backbone.update(
        type=PeerEncoder,
        arch=arch | dict(feedforward_channels=4 * width),
        mask_generator=load(OURS).model.mask_generator,
    )
    config.model.neck.embed_dim = width
    config.model.neck.predict_feature_dim = open_clip.get_model_config(teacher)["embed_dim"]
    config.model.target_generator.tokenizer_path = f"{folder}/{TEACHER}"
    config.model.data_preprocessor = config.data_preprocessor
    config.optim_wrapper.optimizer.lr = LR
    model, optim_wrapper = build_step(config, precision, default_device())
    _load_student(model, torch.load(f"{folder}/{STUDENT}"))
    return _make_step(model, optim_wrapper, batch_size)


def fixed_images(batch_size: int, side: int = 224) -> Tensor:
    """(B, 3, side, side) uint8: noise, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch_size, 3, side, side), dtype=torch.uint8, generator=generator)


def pinned_images(batch_size: int) -> Tensor:
    """`fixed_images` as a loader returns them: in pinned memory if there is a GPU."""
    images = fixed_images(batch_size)
    return images.pin_memory() if torch.cuda.is_available() else images


def _load_student(model: Any, state_dict: dict[str, Tensor]) -> None:
    """Give mmpretrain's model our weights and our epsilon; its blocks have torch's default."""
    renamed, _ = convert_state_dict(state_dict, "mmpretrain", "our model")
    left = model.load_state_dict(renamed, strict=False)
    missing = [name for name in left.missing_keys if not name.startswith("target_generator.")]
    if missing or left.unexpected_keys:
        raise RuntimeError(
            f"missing in mmpretrain's model: {left.unexpected_keys}; missing in ours: {missing}"
        )
    for part in (model.backbone, model.neck):
        for module in part.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6


def _make_step(model: BaseModel, optim_wrapper: OptimWrapper, batch_size: int) -> Step:
    images = pinned_images(batch_size)
    count = iter(range(2**31))

    def step() -> float:
        seed_masks(next(count))
        losses = model.train_step(dict(inputs=images, data_samples=None), optim_wrapper)
        return losses["loss"].item()

    return step


def seed_masks(step: int) -> None:
    """Let both draw the same random numbers for the masks of a step; they draw no others."""
    torch.manual_seed(step)


class PeerEncoder(MILANViT):
    """mmpretrain's encoder with our sampler, so that equal seeds give equal masks.

    Both samplers draw without replacement, in proportion to the importance.

    Args:
        mask_generator: Config of ours. settings: Of `MILANViT`.
    """

    def __init__(self, mask_generator: dict, **settings: Any) -> None:
        super().__init__(**settings)
        self.mask_generator = MODELS.build(mask_generator)

    def attention_masking(
        self, x: Tensor, mask_ratio: float, importance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Split the patches.

        Args:
            x: (B, L, D) float.
            mask_ratio: Unused: the sampler has its own.
            importance: (B, L) float.

        Returns:
            Kept patches (B, K, D); the order that restores the image (B, L) int64; places of the
            kept and of the masked patches, (B, K) and (B, M) int64.
        """
        ids_keep, ids_mask = self.mask_generator(x, x.shape[1], importance)
        ids_restore = torch.cat([ids_keep, ids_mask], dim=1).argsort(dim=1)
        kept = x.gather(1, ids_keep.unsqueeze(-1).expand(-1, -1, x.shape[2]))
        return kept, ids_restore, ids_keep, ids_mask
