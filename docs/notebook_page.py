"""Turns tutorial.ipynb, with the outputs that it was saved with, into a page of the docs site."""

import base64
import json
from pathlib import Path

from mkdocs.structure.files import File

NAME = "tutorial"


def on_files(files, config):
    """Called by MkDocs: adds the page and its pictures."""
    path = Path(config.docs_dir, f"{NAME}.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts, pictures = [], []
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                pictures.append(base64.b64decode(data["image/png"]))
                parts.append(f"![]({NAME}-{len(pictures)}.png)")
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{text.rstrip()}\n```")
    files.append(File.generated(config, f"{NAME}.md", content="\n\n".join(parts) + "\n"))
    for number, picture in enumerate(pictures, 1):
        files.append(File.generated(config, f"{NAME}-{number}.png", content=picture))
    return files
