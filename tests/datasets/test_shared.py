"""The transforms of a data set are found, whatever they are wrapped in."""

from types import SimpleNamespace

from mmcv import transforms
from mmengine.dataset import Compose

from milan_mm.datasets.shared import iter_transforms


def test_transforms_are_found_in_wrapped_data_sets_and_inside_of_transforms():
    plain, chosen, viewed = (transforms.LoadImageFromFile() for _ in range(3))
    choice = transforms.RandomChoice([[chosen], []])
    views = transforms.TestTimeAug([[dict(type="LoadImageFromFile")], [viewed]])
    inner = [SimpleNamespace(pipeline=Compose([plain, choice])), SimpleNamespace(pipeline=views)]
    dataset = SimpleNamespace(datasets=[inner[0], SimpleNamespace(dataset=inner[1])])
    found = list(iter_transforms(dataset))
    for transform in (plain, choice, chosen, viewed):
        assert sum(part is transform for part in found) == 1
