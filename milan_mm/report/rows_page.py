"""The page of rows that make no table of methods: of tools/knn.py, the demo and the ablation.

What all rows have in common stands above, and what tells them apart is a table.
"""

import json
from collections.abc import Mapping, Sequence

from milan_mm.report.axes import number
from milan_mm.report.page import Section, bullets, facts, join, page, table

_FIRST = ("task", "init", "method", "feature", "metric", "value")


def rows_page(rows: Sequence[Mapping], name: str, remarks: Sequence[str] = ()) -> str:
    """A page of any rows.

    Args:
        rows: One or more, of plain values. name: Of their file.
        remarks: On the file, see `milan_mm.evaluation.results.remarks_on`.
    """
    names = list(dict.fromkeys([*_FIRST, *(key for row in rows for key in row)]))
    texts = {key: [_text(row.get(key)) for row in rows] for key in names}
    differs = [key for key in names if len({*texts[key]}) > 1 or key in ("metric", "value")]
    common = {key: texts[key][0] for key in names if key not in differs}
    lines = [[texts[key][i] for key in differs] for i in range(len(rows))]
    body = table(differs, lines, numbers=False)
    head = join([bullets(remarks), facts(common)])
    return page(f"Results: {name}", head, [Section("rows", "Rows", body)])


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value)
