"""A test's pictures say what they show."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from PIL import Image

from milan_mm.inference.classes import Classes
from milan_mm.inference.showing import ShowHook


@pytest.mark.parametrize(("score_thr", "number"), [(0.5, "1 object"), (0.9, "no objects")])
def test_titles_count_objects_and_name_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score_thr: float, number: str
):
    path = str(tmp_path / "1.png")
    Image.new("RGB", (32, 32)).save(path)
    truth = InstanceData(bboxes=torch.tensor([[1.0, 1, 9, 9]]), labels=torch.tensor([0]))
    found = InstanceData(
        bboxes=torch.tensor([[1.0, 1, 9, 9], [2, 2, 8, 8]]),
        labels=torch.tensor([0, 0]),
        scores=torch.tensor([0.8, 0.2]),
    )
    sample = DetDataSample(metainfo=dict(img_path=path), gt_instances=truth, pred_instances=found)
    hook = ShowHook(tmp_path / "shown", score_thr)
    hook.task, hook.classes, hook._stems = "det", Classes.named("det", ["cat"], ()), {path: "1"}
    given: list[str] = []
    monkeypatch.setattr(
        "milan_mm.inference.showing.side_by_side",
        lambda pictures, titles: given.extend(titles) or np.asarray(pictures[0]),
    )
    hook.after_test_iter(None, 0, outputs=[sample])  # type: ignore[arg-type]
    assert given == ["annotated: 1 object", f"predicted: {number}, score {score_thr:g} or more"]
