"""The statistics that images are normalised by, and their names."""

import torch

# Mean and standard deviation of R, G, B in 0-1.
STATS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
# The same in 0-255, as data preprocessors take them.
BYTE_STATS = {
    name: tuple([round(255 * value, 3) for value in values] for values in pair)
    for name, pair in STATS.items()
}


def stats_name(mean: object, std: object) -> str | None:
    """The key of `STATS` with this mean and standard deviation of R, G, B in 0-1, if any."""
    try:
        given = torch.tensor([list(mean), list(std)], dtype=torch.float64)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None
    for name, values in STATS.items():
        expected = torch.tensor(values, dtype=torch.float64)
        if given.shape == expected.shape and torch.allclose(given, expected, atol=1e-3):
            return name
    return None
