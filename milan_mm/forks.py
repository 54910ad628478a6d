"""The maintained forks of OpenMMLab, under the names that mmengine looks for."""

from importlib.metadata import PackageNotFoundError, version

from mmengine.config.utils import MODULE2PACKAGE

FORKS = {"mmdet": "onedl-mmdetection", "mmseg": "onedl-mmsegmentation"}


def find_fork_configs() -> None:
    """Let `_base_ = 'mmseg::...'` find the configs of an installed fork.

    mmengine looks for the distribution `mmsegmentation`; the fork's is `onedl-mmsegmentation`. The
    upstream package is preferred where it is installed.
    """
    for module, fork in FORKS.items():
        if not _is_distribution(MODULE2PACKAGE[module]) and _is_distribution(fork):
            MODULE2PACKAGE[module] = fork


def _is_distribution(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
