"""Notebooks as pages: text as it is, code as blocks, pictures and printed text below them."""

import json
from pathlib import Path


def pages(folder: Path) -> dict[str, str]:
    """Page -> Markdown, for each notebook."""
    return {f"notebooks/{path.stem}.md": _page(path) for path in sorted(folder.glob("*.ipynb"))}


def _page(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts += [f"```python\n{source}\n```", *map(_output, cell.get("outputs", []))]
    file = f'<a href="{path.name}" download>{path.name}</a>'
    where = f"*This page is the notebook {file} of `docs/notebooks/`, which the tests execute.*"
    return "\n\n".join([*parts, where]) + "\n"


def _output(output: dict) -> str:
    if output.get("name") == "stderr":
        return ""
    if "text" in output:
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    data = output["data"]
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            image = "".join(data[kind]).replace("\n", "")
            return f'<img alt="Output of the cell above" src="data:{kind};base64,{image}">'
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"
