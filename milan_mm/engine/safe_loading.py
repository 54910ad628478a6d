"""Local checkpoints and downloads that mmengine reads go through `read_checkpoint`.

mmengine's own loaders fall back to full unpickling, which runs whatever code a file hides. These
ones replace them for local files and downloads, and with that for `--resume`, `load_from`,
`init_cfg=dict(type='Pretrained')` and the test tool.
"""

import os
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.runner import CheckpointLoader

from milan_mm.weights.reading import read_checkpoint


def load_from_local(filename: str, map_location: str | None = None) -> dict:
    """Read a local file onto the CPU; whoever fills a model or an optimizer moves the tensors.

    Args:
        filename: See `read_checkpoint`.
        map_location: Ignored, kept for mmengine's interface.
    """
    checkpoint = read_checkpoint(os.path.expanduser(filename))
    meta = checkpoint.get("meta")
    if isinstance(meta, dict):
        # mmengine's resume executes this text as a Python config, only to compare GPU numbers
        meta.pop("config", None)
    return checkpoint


def load_from_http(filename: str, map_location: str | None = None) -> dict:
    """Download once per machine into torch's cache, then read as a local file."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(filename).path).name
    if not path.exists() and get_local_rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(path))
    barrier()
    return load_from_local(str(path))


CheckpointLoader.register_scheme("", load_from_local, force=True)
CheckpointLoader.register_scheme(["http://", "https://"], load_from_http, force=True)
