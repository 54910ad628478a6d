"""Parameter groups: weight decay by kind of parameter, learning rate by depth."""

from collections import defaultdict
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from milan_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer whose groups follow the written rules of `paramwise_cfg`.

    The keys of `paramwise_cfg`, all optional:

    - `layer_decay_rate` (float, 1.0): a parameter at depth d of a backbone of N depths learns at
      `lr * layer_decay_rate**(N-1-d)`; what is outside the backbone learns at `lr`. The backbone
      tells the depth through `get_layer_depth`.
    - `no_decay_1d` (bool, False): no weight decay on one-dimensional parameters.
    - `no_decay_types` (list[str]): no decay on parameters of modules of exactly these classes,
      e.g. 'LayerNorm'.
    - `no_decay_names` (list[str]): no decay on parameters whose last name is listed, e.g. 'bias',
      'pos_embed'.

    Frozen parameters enter no group. Groups with equal settings are merged, because fused
    optimizers work group by group.
    """

    paramwise_cfg: dict
    KEYS = frozenset({"layer_decay_rate", "no_decay_1d", "no_decay_types", "no_decay_names"})

    def _validate_cfg(self) -> None:
        unknown = set(self.paramwise_cfg) - self.KEYS
        if unknown:
            raise ValueError(
                f"paramwise_cfg has unknown keys {sorted(unknown)}: known are {sorted(self.KEYS)}"
            )
        # mmengine passes by `add_params` when there is no rule at all
        self.paramwise_cfg = dict(layer_decay_rate=1.0) | self.paramwise_cfg

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Append the merged groups of `module` (the whole model) to `params`."""
        groups: dict[tuple[float, float], list] = defaultdict(list)
        for name, lr_scale, decays in parameter_rules(module, **self.paramwise_cfg):
            weight_decay = (self.base_wd or 0.0) if decays else 0.0
            groups[self.base_lr * lr_scale, weight_decay].append(name)
        parameters = dict(module.named_parameters())
        table = [f"{len(groups)} parameter groups:"]
        for (lr, weight_decay), names in sorted(groups.items()):
            group = [parameters[name] for name in names]
            params.append(dict(params=group, lr=lr, weight_decay=weight_decay))
            table.append(
                f"  lr {lr:<9.3g} weight decay {weight_decay:<5.3g} {len(names):>4} tensors "
                f"{sum(p.numel() for p in group):>12,} values, e.g. {names[0]}"
            )
        print_log("\n".join(table), "current")


def parameter_rules(
    model: nn.Module,
    layer_decay_rate: float = 1.0,
    no_decay_1d: bool = False,
    no_decay_types: tuple[str, ...] = (),
    no_decay_names: tuple[str, ...] = (),
) -> list[tuple[str, float, bool]]:
    """What the rules say of every trainable parameter.

    Returns:
        (name, factor on the learning rate, whether weight decay applies) in the model's order.

    Raises:
        ValueError: When `layer_decay_rate` is asked of a model whose backbone tells no depths.
    """
    backbones = [(n, m) for n, m in model.named_modules() if _tells_depth(m)]
    if layer_decay_rate != 1.0 and not backbones:
        raise ValueError(
            f"layer_decay_rate={layer_decay_rate} needs a backbone with get_layer_depth, e.g. "
            f"PlainViT; {type(model).__name__} has none"
        )
    types = {
        f"{prefix}.{name}" if prefix else name: type(module).__name__
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
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
            or types[name] in no_decay_types
            or name.rsplit(".", 1)[-1] in no_decay_names
        )
        rules.append((name, layer_decay_rate**exponent, not exempt))
    return rules


def _tells_depth(module: nn.Module) -> bool:
    # mmpretrain's whole models forward the call to their backbone; the backbone itself is wanted
    return hasattr(module, "get_layer_depth") and not hasattr(module, "backbone")
