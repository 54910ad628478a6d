"""MILAN pretraining for plain ViTs, and transfer to mmdet and mmseg.

Importing the package announces its registries, which import `milan_mm.register` when a config first
names one of its classes, and lets configs inherit from installed OpenMMLab forks. Nothing else
happens, so that the import is quick.
"""

from contextlib import suppress

# without mmengine the self-check (`python -m milan_mm doctor`) must still start, to say so
with suppress(ImportError):
    from milan_mm import registry as registry
    from milan_mm.forks import find_fork_configs

    find_fork_configs()
