"""The published numbers are those of the paper's tables."""

from milan_mm.evaluation.published import plain_name, published, source


def _values(method: str, **facts) -> list[float]:
    return [
        n.value
        for n in published()
        if n.method == method and all(getattr(n, k) == v for k, v in facts.items())
    ]


def test_single_numbers_are_those_of_the_paper():
    assert _values("MILAN", table=1, arch="ViT-B/16", img_size=224) == [85.4]
    assert _values("MILAN", table=1, arch="ViT-L/16") == [86.7, 87.3]
    assert _values("MILAN", table=3) == [52.6, 45.5, 52.7]
    assert _values("MAE", table=3) == [50.3, 44.9, 48.1]
    assert _values("SWAG", table=1) == [85.3]


def test_there_are_as_many_numbers_as_in_the_tables():
    assert len(_values_of_table(1)) == 15 + 12 + 4 + 3
    assert len(_values_of_table(3)) == 9 * 3


def _values_of_table(table: int) -> list[float]:
    return [n.value for n in published() if n.table == table]


def test_the_source_is_named():
    assert source() == "MILAN, arXiv 2208.06049, Tables 1 and 3"


def test_a_system_is_found_under_any_spelling():
    assert plain_name("MoCo v3") == plain_name("mocov3") == plain_name("MOCO-V3")
    assert plain_name("BEiT") != plain_name("mc-BEiT")
