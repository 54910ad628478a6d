"""The dicts and data sets of a config are found, whatever they are wrapped in."""

from mmengine.config import Config

from milan_mm.run.config_nodes import config_nodes, datasets_of, evaluators_of


def test_every_dict_comes_once_with_its_name_and_outer_ones_first():
    cfg = Config(dict(a=dict(b=[dict(c=1), 2, (dict(d=3),)]), e="text"))
    assert [name for name, _ in config_nodes(cfg)] == ["", "a", "a.b.0", "a.b.2.0"]
    shared = dict(size=8)
    for _, node in config_nodes([dict(x=shared), dict(y=shared)]):
        if "size" in node:
            node["size"] //= 2
    assert shared["size"] == 4


def test_data_sets_are_found_inside_wrappers():
    inner = [dict(type="A"), dict(type="B")]
    mixed = dict(type="ConcatDataset", datasets=[inner[0], dict(type="R", dataset=inner[1])])
    cfg = Config(dict(loader=dict(dataset=mixed), none=None))
    found = list(datasets_of(cfg, "loader"))
    assert [name for name, _ in found] == [
        "loader.dataset.datasets.0",
        "loader.dataset.datasets.1.dataset",
    ]
    assert [dataset for _, dataset in found] == inner
    assert not list(datasets_of(cfg, "none")) and not list(datasets_of(cfg, "test_dataloader"))


def test_metrics_are_a_list_also_where_there_is_one_or_none():
    cfg = Config(dict(val_evaluator=dict(type="A"), test_evaluator=[dict(type="A")] * 2))
    counts = [len(evaluators_of(cfg, f"{name}_dataloader")) for name in ("train", "val", "test")]
    assert counts == [0, 1, 2]
