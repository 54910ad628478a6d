"""MILAN pretraining for plain ViTs, and transfer to mmdet and mmseg.

Importing the package announces its registries, which import `milan_mm.register` when a config first
names one of its classes, and lets configs inherit from installed OpenMMLab forks. Both wait for
mmengine, and nothing else happens, so that the import is quick.
"""

from milan_mm.announcing import announce_with_mmengine

announce_with_mmengine()
