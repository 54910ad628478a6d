"""Top-k accuracy with no more guesses than there are classes."""

from mmengine.config import Config

from milan_mm.run.config_nodes import evaluators_of


def limit_guesses(cfg: Config) -> list[str]:
    """Take the k out of a classifier's metrics that exceed its classes, in place.

    mmpretrain would stop at the first validation, after an epoch.

    Returns:
        Lines for the log.
    """
    num_classes = (cfg.get("model", {}).get("head") or {}).get("num_classes")
    if cfg.get("default_scope") != "mmpretrain" or not isinstance(num_classes, int):
        return []
    left_out: set[int] = set()
    for loader in ("val_dataloader", "test_dataloader"):
        for evaluator in evaluators_of(cfg, loader):
            topk = evaluator.get("topk", ())
            topk = (topk,) if isinstance(topk, int) else tuple(topk)
            left_out |= (large := {k for k in topk if k > num_classes})
            if large:
                evaluator["topk"] = tuple(k for k in topk if k not in large) or (1,)
    return [
        f"top-{k} accuracy is left out: there are {num_classes} classes" for k in sorted(left_out)
    ]
