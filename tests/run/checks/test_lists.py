"""Lists of samples name files of their folder, and labels of the head."""

from pathlib import Path

import pytest
from mmengine.config import Config

from milan_mm.errors import UserError
from milan_mm.run.checks.lists import check_lists

INSIDE = r"which is not a name inside a folder: give names relative"
LABEL = r"the limits are 0 and 2, as model.head.num_classes says"


def config(scope: str, root: Path, line: str, **dataset: object) -> Config:
    (root / "list.txt").write_text(f"a 0\n{line}\n" if scope == "mmpretrain" else f"a\n{line}\n")
    return Config(
        dict(
            default_scope=scope,
            model=dict(head=dict(num_classes=3)),
            train_dataloader=dict(
                dataset=dict(type="CustomDataset", data_root=str(root), ann_file="list.txt")
                | dataset
            ),
        )
    )


@pytest.mark.parametrize(
    ("scope", "line", "message"),
    [
        ("mmpretrain", "../../x.png 1", INSIDE),
        ("mmpretrain", "/etc/x.png 1", INSIDE),
        ("mmpretrain", f"{'n' * 10_000}.png 1", INSIDE),
        ("mmpretrain", "b.png 3", LABEL),
        ("mmpretrain", "b.png -1", LABEL),
        ("mmpretrain", "b.png \u0663", LABEL),
        ("mmpretrain", "b.png", INSIDE),
        ("mmseg", "../../x", INSIDE),
        ("mmseg", "a\0b", INSIDE),
    ],
)
def test_a_line_that_leads_out_or_has_another_label_is_named(tmp_path, scope, line, message):
    cfg = config(scope, tmp_path, line)
    with pytest.raises(UserError, match=rf"line 2 of '.*list.txt' .*{message}") as error:
        check_lists(cfg, ("train_dataloader",))
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("scope", ["mmpretrain", "mmseg"])
def test_names_inside_pass_and_a_list_without_a_folder_names_files_anywhere(tmp_path, scope):
    label = " 2" if scope == "mmpretrain" else ""
    assert check_lists(config(scope, tmp_path, f"b/c d.png{label}"), ("train_dataloader",)) == []
    places = dict(data_root="", data_prefix="", ann_file=str(tmp_path / "list.txt"))
    cfg = config(scope, tmp_path, f"/data/x.png{label}", **places)
    assert check_lists(cfg, ("train_dataloader",)) == []


@pytest.mark.parametrize(
    ("kind", "lines", "split"),
    [
        ("CUB", "1 001.Albatross/a b.jpg\n", None),
        ("Food101", "apple_pie/1005649\n", "train"),
        ("OxfordIIITPet", "Abyssinian_100 1 1 99\n", None),
    ],
)
def test_lists_of_other_data_sets_of_mmpretrain_pass(tmp_path, kind, lines, split):
    cfg = config("mmpretrain", tmp_path, "a 0", type=kind, **(dict(split=split) if split else {}))
    for name in ("list.txt", "meta/train.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(lines)
    assert check_lists(cfg, ("train_dataloader",)) == []
