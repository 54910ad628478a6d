"""Parameter groups: weight decay by kind of parameter, learning rate by depth."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from timm.optim import Lars
from torch import nn
from torch.optim import Optimizer

from milan_mm.errors import UserError
from milan_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS

# For linear probes. mmpretrain's LARS multiplies the learning rate into the momentum, so that
# earlier rates enter a step; the published one, and timm's, multiply it afterwards. Nobody else
# registers timm's, and a config can name only what is registered.
OPTIMIZERS.register_module(module=Lars)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer whose groups follow the written rules of `paramwise_cfg`.

    The keys of `paramwise_cfg`, all optional:

    - `layer_decay_rate` (float, 1.0): a parameter at depth d of a backbone of N depths learns at
      `lr * layer_decay_rate**(N-1-d)`; what is outside the backbone learns at `lr`. The depth
      comes from the backbone's `get_layer_depth`.
    - `no_decay_1d` (bool, False): no weight decay on one-dimensional parameters.
    - `no_decay_types` (list[str]): no decay on parameters of modules of exactly these classes,
      e.g. 'LayerNorm', which stands for torch's RMSNorm as well, the norm of some encoders.
    - `no_decay_names` (list[str]): no decay on parameters whose last name is listed, e.g.
      'cls_token', 'pos_embed'.
    - `options_1d` (dict): further settings of the optimizer for one-dimensional parameters, e.g.
      `dict(always_adapt=False)`, which exempts them from the trust ratio of `Lars`.

    A listed class or name must exist in the model, frozen or not, so that a misspelt rule is an
    error. A single one may be given without a list, as on the command line. Frozen parameters are
    in no group. Groups with equal settings are merged, because fused optimizers work group by
    group.
    """

    paramwise_cfg: dict
    KEYS = frozenset(
        {"layer_decay_rate", "no_decay_1d", "no_decay_types", "no_decay_names", "options_1d"}
    )

    def _validate_cfg(self) -> None:
        unknown = set(self.paramwise_cfg) - self.KEYS
        if unknown:
            raise UserError(
                f"paramwise_cfg has unknown keys {sorted(unknown)}: known are {sorted(self.KEYS)}"
            )
        # without any rule, mmengine would not call `add_params`
        self.paramwise_cfg = dict(layer_decay_rate=1.0) | self.paramwise_cfg

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Append the merged groups of `module` (the whole model) to `params`."""
        parameters = dict(module.named_parameters())
        groups: dict[tuple[float, float, bool], list] = defaultdict(list)
        rules = dict(self.paramwise_cfg)
        options_1d = rules.pop("options_1d", {})
        for name, lr_scale, decays in parameter_rules(module, **rules):
            weight_decay = (self.base_wd or 0.0) if decays else 0.0
            has_options = bool(options_1d) and parameters[name].ndim == 1
            groups[self.base_lr * lr_scale, weight_decay, has_options].append(parameters[name])
        for (lr, weight_decay, has_options), group in sorted(groups.items(), key=lambda i: i[0]):
            options = options_1d if has_options else {}
            params.append(dict(params=group, lr=lr, weight_decay=weight_decay, **options))
        print_log(group_summary(module, params), "current")


def parameter_rules(
    model: nn.Module,
    layer_decay_rate: float = 1.0,
    no_decay_1d: bool = False,
    no_decay_types: Sequence[str] | str = (),
    no_decay_names: Sequence[str] | str = (),
) -> list[tuple[str, float, bool]]:
    """Apply the rules to every trainable parameter.

    Returns:
        (name, factor on the learning rate, whether weight decay applies) in the model's order.

    Raises:
        UserError: `layer_decay_rate` is given, but the backbone has no `get_layer_depth`; or a
            listed class or name is not in the model.
    """
    backbones = [(n, m) for n, m in model.named_modules() if _has_depths(m)]
    if layer_decay_rate != 1.0 and not backbones:
        raise UserError(
            f"layer_decay_rate={layer_decay_rate} needs a backbone with get_layer_depth, e.g. "
            f"PlainViT; {type(model).__name__} has none"
        )
    types = {
        f"{prefix}.{name}" if prefix else name: _class_names(module)
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    exempt_types = _listed("no_decay_types", no_decay_types, set().union(*types.values()))
    exempt_names = _listed("no_decay_names", no_decay_names, set(map(_last_name, types)))
    rules = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        exponent = 0
        for prefix, backbone in backbones:
            depth, num_depths = backbone.get_layer_depth(name, f"{prefix}." if prefix else "")
            exponent += num_depths - 1 - depth
        exempt = (
            (no_decay_1d and parameter.ndim == 1)
            or types[name] & exempt_types
            or _last_name(name) in exempt_names
        )
        rules.append((name, layer_decay_rate**exponent, not exempt))
    return rules


def parameter_table(model: nn.Module, optimizer: Optimizer, with_frozen: bool = False) -> str:
    """One line per parameter in the model's order: name, shape, factor on the rate, decay or not.

    The values are read from the optimizer, so the table is right for any constructor.

    Args:
        with_frozen: Also list parameters that are not optimised.
    """
    settings = {
        id(p): (f"{group['lr'] / optimizer.defaults['lr']:.6g}", _decays(group))
        for group in optimizer.param_groups
        for p in group["params"]
        if p.requires_grad
    }
    rows = [("name", "shape", "lr factor", "decay")]
    for name, parameter in model.named_parameters():
        if with_frozen or id(parameter) in settings:
            shape = "x".join(map(str, parameter.shape)) or "scalar"
            rows.append((name, shape, *settings.get(id(parameter), ("frozen", "-"))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def group_summary(model: nn.Module, param_groups: list[dict]) -> str:
    """One line per learning rate and weight decay: how many parameters have them, and an example.

    Args:
        param_groups: The optimizer's, each with `params`, `lr` and `weight_decay`.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    merged: dict[tuple[float, float], list] = defaultdict(list)
    for group in param_groups:
        trainable = [p for p in group["params"] if p.requires_grad]
        if trainable:
            merged[group["lr"], group.get("weight_decay", 0.0)] += trainable
    lines = [f"{len(merged)} parameter groups:"]
    for (lr, weight_decay), members in sorted(merged.items(), key=lambda item: item[0]):
        lines.append(
            f"  lr {lr:<9.3g} weight decay {weight_decay:<5.3g} {len(members):>4} tensors "
            f"{sum(p.numel() for p in members):>12,} values, e.g. {names[id(members[0])]}"
        )
    return "\n".join(lines)


def _has_depths(module: nn.Module) -> bool:
    # not mmpretrain's whole models, which have the method too and pass the call on to the backbone
    return hasattr(module, "get_layer_depth") and not hasattr(module, "backbone")


def _class_names(module: nn.Module) -> set[str]:
    """Under which `no_decay_types` may list it."""
    also = {"LayerNorm"} if isinstance(module, nn.RMSNorm) else set()
    return {type(module).__name__} | also


def _listed(key: str, values: Sequence[str] | str, existing: set[str]) -> set[str]:
    listed = {values} if isinstance(values, str) else set(values)
    if listed - existing:
        raise UserError(
            f"paramwise_cfg.{key} lists {sorted(listed - existing)}, which no parameter of the "
            f"model has: choose from {sorted(existing)}"
        )
    return listed


def _last_name(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _decays(group: dict) -> str:
    return "yes" if group.get("weight_decay") else "no"
