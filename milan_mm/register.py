"""Imports every module that registers a class; the registries import this one on first look-up."""

from milan_mm import amp, multi_scale, optim, probe, pyramid, vit
from milan_mm.data import crops, labels, loading
from milan_mm.engine import compiling, loading_time, losses, seeding, unreadable
from milan_mm.pretrain import decoder, masking, milan, targets, teacher_clip, teacher_timm
from milan_mm.weights import loading as weights

__all__ = [
    "amp",
    "compiling",
    "crops",
    "decoder",
    "labels",
    "loading",
    "loading_time",
    "losses",
    "masking",
    "milan",
    "multi_scale",
    "optim",
    "probe",
    "pyramid",
    "seeding",
    "targets",
    "teacher_clip",
    "teacher_timm",
    "unreadable",
    "vit",
    "weights",
]
