"""Models without weights: what is built on the meta device, and what cannot be."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from milan_mm.configs import load
from milan_mm.registry import MODELS
from milan_mm.run.building import build_optimizer, build_without_memory
from milan_mm.run.config_nodes import teachers

PRETRAIN = "milan_vit-base-p16_8xb512-amp-coslr-400e_in1k"


@MODELS.register_module()
class ReadsValues(nn.Linear):
    """Computes with a value while it is built, as Swin's drop-path rates do."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.rate = torch.linspace(0, 1, 3)[1].item()


def test_student_and_teacher_take_no_memory_and_the_config_stays_as_it_is():
    config = load(PRETRAIN)
    model = build_without_memory(config)
    tensors = [*model.parameters(), *model.head.teacher.module.parameters()]
    assert all(tensor.is_meta for tensor in tensors)
    assert config.model.head.teacher.pretrained == "openai"


def test_a_model_that_needs_values_is_built_on_the_cpu():
    model = build_without_memory(Config(dict(model=dict(type="ReadsValues"))))
    assert model.rate == 0.5
    assert model.weight.device.type == "cpu"


def test_a_config_without_a_model_is_named():
    with pytest.raises(ValueError, match=r"has no model: it is not a training config"):
        build_without_memory(Config(dict(total_batch=8)))


def test_a_config_without_an_optimizer_is_named():
    with pytest.raises(ValueError, match=r"has no optim_wrapper\.optimizer"):
        build_optimizer(Config(dict(model={})), nn.Linear(2, 2))


def test_teachers_are_found_at_any_depth():
    one, two = dict(model_name="a", pretrained="x"), dict(model_name="b", pretrained="y")
    model = Config(dict(head=dict(teacher=one), heads=[dict(parts=(dict(teacher=two),))]))
    assert [teacher.model_name for teacher in teachers(model)] == ["a", "b"]
