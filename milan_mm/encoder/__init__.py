"""The encoder on its own: a torch module of any pretrained file, and its export to other libraries.

Nothing here imports mmcv, mmdet, mmseg or mmpretrain.
"""
