"""MILAN pretraining for plain ViTs, and transfer to mmdet and mmseg."""

__version__ = "0.1.0"
