"""The options of `PlainViT`, written once: names, defaults, meaning, and what excludes what."""

from collections.abc import Sequence
from dataclasses import dataclass

from milan_mm.errors import UserError
from milan_mm.models.positions import RESIZE_RULES, ROPE_KINDS

ARCHS = {
    "tiny": dict(embed_dims=192, num_layers=12, num_heads=3),
    "small": dict(embed_dims=384, num_layers=12, num_heads=6),
    "base": dict(embed_dims=768, num_layers=12, num_heads=12),
    "large": dict(embed_dims=1024, num_layers=24, num_heads=16),
    "so400m": dict(embed_dims=1152, num_layers=27, num_heads=16),
    "huge": dict(embed_dims=1280, num_layers=32, num_heads=16),
    "giant": dict(embed_dims=1408, num_layers=40, num_heads=16),
}
# Width of their MLPs, where it is not four times `embed_dims`.
MLP_DIMS = {"so400m": 4304, "giant": 6144}
OUT_TYPES = ("featmap", "cls_token", "avg_featmap", "attn_pool", "raw")
NORMS = ("LN", "RMS")
# Pretrained weights need these as they were in their pretraining; the defaults are MILAN's.
WEIGHT_OPTIONS = (
    "norm_eps",
    "act",
    "patch_bias",
    "pre_norm",
    "layer_scale",
    "with_pos_embed",
    "pos_resize",
    "rel_pos_bias_grid",
    "num_registers",
    "rope_base",
    "rope_kind",
    "rope_grid",
    "mlp_dims",
    "norm",
    "patch_norm",
    "qk_norm",
    "attn_norm",
    "mlp_norm",
    "pool_heads",
    "pool_dims",
)


@dataclass(frozen=True)
class ViTOptions:
    """What a `PlainViT` is built from, and what it keeps as `vit.options`.

    Attributes:
        arch: A key of `ARCHS`, or a dict with `embed_dims`, `num_layers`, `num_heads`. 'so400m' and
            'giant' have MLPs of their own width, see `mlp_dims`.
        img_size: Height and width, in pixels, of the position table (the pretraining crop). Other
            input sizes are served by resizing the table.
        patch_size: Side of a square patch in pixels.
        with_cls_token: Prepend the class token. Window attention needs False.
        final_norm: Apply the last LayerNorm (`ln1`) after the last block.
        fixed_pos_embed: Keep the sine-cosine table frozen, as in pretraining.
        out_indices: Blocks whose output `forward` returns; negative counts from the end.
        out_type: 'featmap' (B, D, h, w), 'cls_token' (B, D), 'avg_featmap' (B, D), the mean of the
            patches followed by a LayerNorm (`ln2`) of its own, 'attn_pool' (B, D), what the
            encoder's own attention pooling makes of the normalised tokens, or 'raw' (B, 1+L, D).
        window_size: Side of an attention window in patches; 0 means global attention everywhere.
        global_layers: Blocks that attend globally although `window_size` is set.
        rel_pos_grid: (h, w) in patches of the images to train on gives every block decomposed
            relative positions, zero at first: 2n-1 entries along a side of n patches, of the
            window or, in global blocks, of this grid. Other grids are served by resizing the
            tables. None: no relative positions.
        drop_path_rate: Stochastic depth of the last block; earlier blocks grow linearly from 0.
        with_cp: Recompute block activations in the backward pass to save memory.
        frozen: Take no gradient and stay in eval mode, for probes of frozen features.
        norm_eps: Epsilon of every norm.
        act: Activation of the MLPs, 'GELU', 'GELUTanh' (its tanh approximation, in some ViTs of
            SigLIP), 'QuickGELU' (OpenAI's CLIP), 'SiLU', into which a teacher turns QuickGELU, or
            'SwiGLU', whose first layer is twice as wide: gates, then values (arXiv 2002.05202;
            DINOv2-g, DINOv3 S+ and H+, EVA-02, AIMv2).
        patch_bias: Whether the patch embedding has a bias; CLIP's has none.
        pre_norm: LayerNorm of all tokens before the first block (CLIP).
        layer_scale: Initial factor on both branches of every block; None leaves it out.
        with_pos_embed: Whether there is a table of absolute positions; BEiT and DINOv3 have none.
        pos_resize: Key of `RESIZE_RULES`: how the table is resized to images of another size, on
            loading and in every forward pass. None: 'bicubic', the rule of MILAN and of our
            recipes' sources, and only weights that agree may be loaded. A rule that is written
            out overrules that of the weights.
        rel_pos_bias_grid: (h, w) of the pretraining gives every block BEiT's table of relative
            position biases; other grids are served by resizing it.
        num_registers: Number R of tokens between class token and patches (arXiv 2309.16588).
        rope_base: Base of rotary positions, 100 in DINOv3's weights; None leaves them out.
        rope_kind: Key of `ROPE_KINDS`: how the rotary positions number patches and pair channels.
        rope_grid: (h, w) in patches that the numbers of the patches are scaled to (EVA-02); None
            leaves them as they are. DINOv3's are always scaled to -1 to 1.
        mlp_dims: Width of the MLPs inside; None: four times `embed_dims`, or what `arch` says.
        norm: 'LN', or 'RMS' for RMSNorms everywhere, without biases (AIMv2).
        patch_norm: Normalise embedded patches before their positions are added (AIMv2).
        qk_norm: Normalise queries and keys of each head (arXiv 2302.05442).
        attn_norm: Normalise between attention and its last linear layer (EVA-02-CLIP).
        mlp_norm: Normalise before the last linear layer of the MLPs (EVA-02).
        pool_heads: Heads of the encoder's own attention pooling, by a learned query (SigLIP, PE);
            0: it has none. It is built where frozen features are taken, for the outputs 'attn_pool'
            and 'raw'.
        pool_dims: Width of the MLP after this pooling; None: four times `embed_dims`.
        frozen_stages: n freezes what makes the tokens (patch embedding, class token, registers,
            positions, norm before the blocks) and the first n blocks: no gradient, and eval mode,
            so no drop path; of all blocks the norms after them too. -1: nothing is frozen.

    Raises:
        UserError: For sizes or options that contradict each other.
    """

    arch: str | dict
    img_size: int | tuple[int, int] = 224
    patch_size: int = 16
    with_cls_token: bool = True
    final_norm: bool = True
    fixed_pos_embed: bool = False
    out_indices: Sequence[int] = (-1,)
    out_type: str = "featmap"
    window_size: int = 0
    global_layers: Sequence[int] = ()
    rel_pos_grid: int | tuple[int, int] | None = None
    drop_path_rate: float = 0.0
    with_cp: bool = False
    frozen: bool = False
    norm_eps: float = 1e-6
    act: str = "GELU"
    patch_bias: bool = True
    pre_norm: bool = False
    layer_scale: float | None = None
    with_pos_embed: bool = True
    pos_resize: str | None = None
    rel_pos_bias_grid: int | tuple[int, int] | None = None
    num_registers: int = 0
    rope_base: float | None = None
    frozen_stages: int = -1
    rope_kind: str = "dinov3"
    rope_grid: int | tuple[int, int] | None = None
    mlp_dims: int | None = None
    norm: str = "LN"
    patch_norm: bool = False
    qk_norm: bool = False
    attn_norm: bool = False
    mlp_norm: bool = False
    pool_heads: int = 0
    pool_dims: int | None = None

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_output()
        self._check_frozen()
        self._check_positions()
        self._check_parts()

    @property
    def embed_dims(self) -> int:
        """Width D."""
        return self._sizes["embed_dims"]

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return self._sizes["num_layers"]

    @property
    def num_heads(self) -> int:
        """Attention heads A."""
        return self._sizes["num_heads"]

    @property
    def hidden_dims(self) -> int:
        """Width of the MLPs inside."""
        usual = MLP_DIMS.get(self.arch) if isinstance(self.arch, str) else None
        return self.mlp_dims or usual or 4 * self.embed_dims

    @property
    def grid_size(self) -> tuple[int, int]:
        """(h, w) of the position table."""
        height, width = pair(self.img_size)
        return height // self.patch_size, width // self.patch_size

    @property
    def resize_rule(self) -> str:
        """Key of `RESIZE_RULES`: `pos_resize`, or 'bicubic'."""
        return self.pos_resize or "bicubic"

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: 1 for the class token, and R registers."""
        return int(self.with_cls_token) + self.num_registers

    @property
    def with_pool(self) -> bool:
        """Whether the attention pooling is built."""
        return bool(self.pool_heads) and self.out_type in ("attn_pool", "raw")

    @property
    def needs_grid(self) -> bool:
        """Whether attention needs all patches of an image, in their places."""
        return bool(self.window_size or self.rel_pos_grid or self.rel_pos_bias_grid)

    @property
    def _sizes(self) -> dict[str, int]:
        return ARCHS[self.arch] if isinstance(self.arch, str) else self.arch

    def _check_sizes(self) -> None:
        if isinstance(self.arch, str) and self.arch not in ARCHS:
            raise UserError(
                f"arch '{self.arch}' is unknown: choose from {sorted(ARCHS)} or give a dict"
            )
        if {*self._sizes} != (names := {*ARCHS["base"]}):
            raise UserError(
                f"arch {self.arch} must have {', '.join(sorted(names))} and nothing else; MLPs are "
                "4 times as wide as embed_dims, or mlp_dims, an option of its own"
            )
        size = pair(self.img_size)
        if any(side % self.patch_size for side in size):
            nearest = tuple(round(side / self.patch_size) * self.patch_size for side in size)
            raise UserError(
                f"img_size {size} is not a multiple of patch_size {self.patch_size}: use {nearest}"
            )
        if self.embed_dims % self.num_heads:
            raise UserError(
                f"embed_dims {self.embed_dims} is not a multiple of {self.num_heads} heads"
            )

    def _check_output(self) -> None:
        if self.out_type not in OUT_TYPES:
            raise UserError(f"out_type '{self.out_type}' is unknown: choose from {OUT_TYPES}")
        if self.out_type == "cls_token" and not self.with_cls_token:
            raise UserError("out_type 'cls_token' needs with_cls_token=True")
        if self.out_type == "attn_pool" and not self.pool_heads:
            raise UserError(
                "out_type 'attn_pool' needs an encoder with an attention pooling of its own "
                "(pool_heads), e.g. SigLIP's: take 'avg_featmap', the mean of the patches"
            )
        for i in (*self.out_indices, *self.global_layers):
            if not -self.num_layers <= i < self.num_layers:
                raise UserError(
                    f"block index {i} is outside {-self.num_layers}..{self.num_layers - 1}"
                )

    def _check_frozen(self) -> None:
        if not -1 <= self.frozen_stages <= self.num_layers:
            raise UserError(
                f"frozen_stages {self.frozen_stages} is outside -1..{self.num_layers}, the number "
                "of blocks: 0 freezes what makes the tokens, -1 nothing"
            )
        if self.frozen and self.frozen_stages >= 0:
            raise UserError(
                f"frozen=True freezes all blocks, and frozen_stages={self.frozen_stages} the first "
                "ones: leave out one of them"
            )

    def _check_positions(self) -> None:
        if self.pos_resize is not None and self.pos_resize not in RESIZE_RULES:
            raise UserError(
                f"pos_resize '{self.pos_resize}' is unknown: choose from {', '.join(RESIZE_RULES)}"
            )
        for name, value in (
            ("window attention has", self.window_size),
            ("relative positions have", self.rel_pos_grid),
        ):
            if value and self.num_prefix_tokens:
                raise UserError(
                    f"{name} no place for a class token or registers: "
                    "with_cls_token=False, num_registers=0"
                )
        if self.rel_pos_bias_grid and self.num_registers:
            raise UserError("a table of relative position biases has no entries for registers")
        kinds = ("rel_pos_grid", "rel_pos_bias_grid", "rope_base")
        if len(given := [name for name in kinds if getattr(self, name)]) > 1:
            raise UserError(f"{' and '.join(given)} exclude each other: keep one of them")
        if self.rope_kind not in ROPE_KINDS:
            raise UserError(
                f"rope_kind '{self.rope_kind}' is unknown: choose from {', '.join(ROPE_KINDS)}"
            )
        if self.rope_base and self.embed_dims // self.num_heads % 4:
            raise UserError(
                f"rotary positions need heads of a multiple of 4 channels, and "
                f"{self.num_heads} heads of width {self.embed_dims} have "
                f"{self.embed_dims // self.num_heads}"
            )

    def _check_parts(self) -> None:
        if self.norm not in NORMS:
            raise UserError(f"norm '{self.norm}' is unknown: choose from {', '.join(NORMS)}")
        if self.pool_heads and self.embed_dims % self.pool_heads:
            raise UserError(
                f"embed_dims {self.embed_dims} is not a multiple of {self.pool_heads} pool_heads"
            )
        if self.with_pool and self.act == "SwiGLU":
            raise UserError(
                "act 'SwiGLU' cannot be that of the MLP after an attention pooling: leave out "
                "pool_heads, and take out_type 'avg_featmap' or 'cls_token'"
            )


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width), of which a single number gives both."""
    if isinstance(size, Sequence):
        height, width = size
        return height, width
    return size, size
