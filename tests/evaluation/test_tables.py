"""Tables rank only what may be compared, and hide nothing."""

import pytest

from milan_mm.evaluation.recipes import recipe_name
from milan_mm.evaluation.tables import Table, TableCell, make_tables
from tests.evaluation.rows import COCO_COUNTS, CONFIGS, result


def only_table(*rows: dict) -> Table:
    (table,) = make_tables(rows)
    return table


def cell(table: Table, method: str, title: str = "COCO box AP") -> TableCell:
    (line,) = (line for line in table.lines if line.method == method)
    return line.cells[[column.title for column in table.columns].index(title)]


def test_numbers_of_one_protocol_are_ranked():
    table = only_table(result("MAE", value=50.0), result("MILAN", value=51.0))
    (mae,), (milan,) = cell(table, "MAE").entries, cell(table, "MILAN").entries
    assert (mae.best, milan.best) == (False, True)
    assert (mae.mark, milan.mark) == ("", "")


@pytest.mark.parametrize(
    "change",
    [dict(protocol_hash="another"), dict(data_counts=COCO_COUNTS | dict(train=1000))],
    ids=["protocol", "data"],
)
def test_numbers_of_other_protocols_or_data_are_not_ranked_together(change):
    rows = [
        result("MAE", value=50.0),
        result("MILAN", value=51.0),
        result("DINO", value=60.0) | change,
    ]
    table = only_table(*rows)
    entries = {name: cell(table, name).entries[0] for name in ("MAE", "MILAN", "DINO")}
    assert {name: entry.best for name, entry in entries.items()} == dict(
        MAE=False, MILAN=True, DINO=False
    )
    assert {name: entry.mark for name, entry in entries.items()} == dict(
        MAE="a", MILAN="a", DINO="b"
    )
    assert any("not ranked together" in note for note in table.notes)
    assert any(note.startswith("COCO (b): protocol paper ") for note in table.notes)


def test_one_protocol_needs_no_letters():
    table = only_table(result("MAE"), result("MILAN"))
    assert not any("not ranked together" in note for note in table.notes)


def test_other_tasks_have_protocols_of_their_own():
    table = only_table(result("MAE"), result("MAE", task="knn"))
    assert [entry.mark for entry in cell(table, "MAE").entries] == [""]


def test_a_single_number_is_not_called_the_best():
    assert not cell(only_table(result("MAE")), "MAE").entries[0].best


def test_equal_numbers_are_both_the_best():
    table = only_table(result("MAE", value=50.0), result("MILAN", value=50.0))
    assert all(cell(table, name).entries[0].best for name in ("MAE", "MILAN"))


def test_repeats_give_mean_range_and_number_of_runs():
    rows = [result("MAE", value=value, seed=i) for i, value in enumerate((50.0, 50.6, 50.2))]
    (entry,) = cell(only_table(*rows), "MAE").entries
    assert entry.mean == pytest.approx(50.266667)
    assert (entry.low, entry.high, entry.runs) == (50.0, 50.6, 3)


def test_a_cell_that_was_written_twice_is_no_repeat():
    rows = [result("MAE", value=50.0), result("MAE", value=50.6), result("MAE", value=50.4, seed=1)]
    (entry,) = cell(only_table(*rows), "MAE").entries
    assert (entry.low, entry.high, entry.runs) == (50.4, 50.6, 2)


def test_other_configs_of_one_protocol_are_no_repeats():
    rows = [result("MAE", value=50.0), result("MAE", value=52.0, config_hash="another")]
    assert [entry.runs for entry in cell(only_table(*rows), "MAE").entries] == [1, 1]


def test_other_weights_of_one_method_have_a_line_of_their_own():
    rows = [result("MAE"), result("MAE", weights="long.pth", weights_sha256="f" * 64)]
    lines = [line.weights for line in only_table(*rows).lines if line.weights]
    assert lines == ["long.pth", "mae.pth"]


def test_a_renamed_file_stays_on_one_line():
    table = only_table(result("MAE"), result("MAE", task="knn", weights="renamed.pth"))
    assert [line.weights for line in table.lines if line.weights] == ["mae.pth"]
    assert cell(table, "MAE").entries and cell(table, "MAE", "ImageNet k-NN top-1").entries


@pytest.mark.parametrize("other", [dict(train="a", val="c"), None])
def test_folders_of_one_name_with_other_photos_are_not_ranked_together(other):
    rows = [
        result("MAE", task="knn", data="photos", data_hash=dict(train="a", val="b")),
        result("DINO", task="knn", data="photos", data_hash=other),
    ]
    if other is None:
        del rows[1]["data_hash"]  # of version 0.1
    table = only_table(*rows)
    marks = {cell(table, name, "photos k-NN top-1").entries[0].mark for name in ("MAE", "DINO")}
    assert marks == {"a", "b"}
    assert any("(data a b) images" in note for note in table.notes)


def test_rows_of_version_0_1_join_those_on_the_same_published_data():
    rows = [result("MAE", data_hash=dict(train="a", val="b")), result("DINO")]
    table = only_table(*rows)
    assert {cell(table, name).entries[0].mark for name in ("MAE", "DINO")} == {""}


def test_other_images_have_columns_of_their_own_and_nothing_published():
    counts = dict(train=1_281_167, val=50_000)
    table = only_table(
        result("MAE", task="finetune", value=90.0, data_counts=counts, data="cifar10"),
        result("MAE", task="finetune", value=83.0, data_counts=counts),
    )
    other = cell(table, "MAE", "cifar10 finetuned 224 px top-1")
    assert other.published is None and other.entries[0].difference is None
    usual = cell(table, "MAE", "ImageNet finetuned 224 px top-1")
    assert usual.entries[0].mark == "" and usual.entries[0].difference is not None
    assert any(note.startswith("cifar10 finetuned 224 px: protocol") for note in table.notes)


@pytest.mark.parametrize(
    ("task", "title"),
    [
        ("ade20k", "photos mIoU"),
        ("cityscapes", "photos as Cityscapes mIoU"),
        ("coco-stuff-linear", "photos linear as COCO-Stuff mIoU"),
        ("coco-cascade", "photos Cascade box AP"),
    ],
)
def test_own_data_name_the_recipe_where_several_have_one_title(task, title):
    config = recipe_name(task, "base")
    table = only_table(result("MAE", task=task, data="photos", config=config))
    assert cell(table, "MAE", title).entries


def test_short_runs_are_not_ranked():
    table = only_table(*(result(n, value=v, protocol="short") for n, v in (("A", 1.0), ("B", 2.0))))
    assert not any(cell(table, name).entries[0].best for name in "AB")


def test_resampled_patches_are_a_remark():
    remarks = [
        [note for note in only_table(result(config=config)).notes if "resampled" in note]
        for config in (CONFIGS["coco"], CONFIGS["coco"].replace("p16", "p14"))
    ]
    assert remarks == [
        [],
        ["COCO: on patches of 16 pixels, to which the encoder's of 14 were resampled."],
    ]


def test_precisions_that_differ_are_told():
    rows = [result("MAE"), result("MILAN", precision="float32")]
    assert any("bfloat16 and float32" in note for note in only_table(*rows).notes)


def test_a_difference_is_that_to_the_published_number_of_the_method():
    table = only_table(result("mae", value=50.0), result("X", value=50.0))
    assert cell(table, "mae").published == 50.3
    assert cell(table, "mae").entries[0].difference == pytest.approx(-0.3)
    assert cell(table, "X").published is None and cell(table, "X").entries[0].difference is None


@pytest.mark.parametrize(
    "change",
    [
        dict(protocol="short"),
        dict(data_counts=COCO_COUNTS | dict(val=16)),
        dict(data_counts=COCO_COUNTS | dict(train=48)),
    ],
)
def test_short_runs_and_subsets_have_no_difference_to_published_numbers(change):
    found = cell(only_table(result("MAE") | change), "MAE")
    assert found.published == 50.3 and found.entries[0].difference is None


def test_what_was_not_run_stays_visible():
    table = only_table(result("MAE"), result("MAE", task="knn"), result("MILAN", task="knn"))
    assert cell(table, "MILAN") == TableCell(entries=[], published=52.6)
    assert cell(table, "MAE", "ADE20K mIoU") == TableCell(entries=[], published=48.1)


def test_methods_of_the_paper_without_a_run_follow_as_published():
    table = only_table(result("MILAN"))
    assert table.lines[0].method == "MILAN" and table.lines[0].weights
    published = [line.method for line in table.lines if not line.weights]
    assert "MAE" in published and "SplitMask" in published and "MILAN" not in published
    assert cell(table, "MAE").published == 50.3


def test_an_undefined_number_is_kept_and_never_the_best():
    table = only_table(result("MAE", value=None), result("MILAN", value=0.0))
    (entry,) = cell(table, "MAE").entries
    assert entry.mean is None and entry.runs == 1 and not entry.best


def test_finetuning_at_384_pixels_is_a_column_of_its_own():
    config = CONFIGS["finetune"] + "-384x384"
    counts = dict(train=1_281_167, val=50_000)
    table = only_table(
        result("MILAN", task="finetune", value=85.0, data_counts=counts),
        result("MILAN", task="finetune", value=86.0, config=config, data_counts=counts),
    )
    found = {
        size: cell(table, "MILAN", f"ImageNet finetuned {size} px top-1") for size in (224, 384)
    }
    assert found[224].entries[0].difference == pytest.approx(85.0 - 85.4)
    assert found[384].entries[0].difference == pytest.approx(86.0 - 86.4)


def test_architectures_have_tables_of_their_own():
    large, tiny = (CONFIGS["coco"].replace("base", name) for name in ("large", "w24d4"))
    tables = make_tables([result(config=c) for c in (tiny, large, CONFIGS["coco"])])
    assert [table.arch for table in tables] == ["ViT-B/16", "ViT-L/16", "ViT-w24d4/16"]
    assert all(line.weights for line in tables[2].lines)  # the paper has none of this size


def test_methods_come_in_the_order_of_the_paper():
    rows = [result(name) for name in ("Zeta", "MILAN", "Alpha", "DINO")]
    lines = [line.method for line in only_table(*rows).lines if line.weights]
    assert lines == ["DINO", "MILAN", "Alpha", "Zeta"]


def test_rows_of_changed_code_are_a_remark():
    notes = only_table(result(commit="1234567-dirty")).notes
    assert notes[-1] == "The rows were written by 1 version(s): 1234567-dirty"


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="has no rows"):
        make_tables([])
