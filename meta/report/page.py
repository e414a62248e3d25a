"""Building blocks of a self-contained HTML page: everything from outside is escaped here.

All functions that take text escape it; what they return is HTML. Images travel inside the
page as data URIs, so that it opens without a network and from any folder.
"""

import base64
import contextlib
import contextvars
import html
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from meta.runs import atomic, outputs, tables

_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #ffffff; --line: #c8c8c8;
  --soft: #f3f4f6; --note: #5a5a5a; --link: #0b57a4; --warn: #8a4b00; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e6; --back: #16181c;
  --line: #454a52; --soft: #22262c; --note: #a9adb3; --link: #7db7f5; --warn: #f0b26b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1.2rem 4rem; color: var(--text);
  background: var(--back); font: 16px/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 0.6rem; }
h2 { border-bottom: 2px solid var(--line); padding-bottom: 0.2rem; }
a { color: var(--link); }
.scroll { overflow-x: auto; margin: 0.6rem 0; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
caption, figcaption { text-align: left; color: var(--note); font-size: 0.86rem;
  padding: 0.3rem 0; max-width: 50rem; }
th, td { border: 1px solid var(--line); padding: 0.2rem 0.55rem; text-align: left;
  vertical-align: top; overflow-wrap: break-word; max-width: 26rem; }
th { background: var(--soft); } td.number { text-align: right; }
figure { margin: 1rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
figure img.pixels { image-rendering: pixelated; }
.row { display: flex; flex-wrap: wrap; gap: 1.2rem; } .row figure { max-width: 19rem; }
pre { background: var(--soft); padding: 0.7rem; overflow-x: auto; font-size: 0.84rem; }
code { background: var(--soft); padding: 0 0.2rem; }
.note { color: var(--note); } .missing { color: var(--warn); font-weight: 600; }
nav { background: var(--soft); padding: 0.6rem 1.2rem; } nav ol { margin: 0.3rem 0; }
@media print { :root { --text: #000; --back: #fff; --line: #999; --soft: #f3f4f6; --note: #444;
  --link: #000; --warn: #000; } body { max-width: none; font-size: 10pt; padding: 0; }
  .scroll, pre { overflow: visible; } pre { white-space: pre-wrap; }
  h2, h3 { break-after: avoid; } tr { break-inside: avoid; } }
"""
_NUMBER = re.compile(r"[-+]?[\d.,]*\d([eE][-+]?\d+)?%?( \[.*\])?( \(one seed\))?")
_KINDS = {b"\x89PNG": "image/png", b"GIF8": "image/gif"}


_KEPT: contextvars.ContextVar[Path | None] = contextvars.ContextVar("kept", default=None)


@contextlib.contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Within the block further forms of plots and tables (``outputs.also_as``) go to a folder."""
    token = _KEPT.set(folder)
    try:
        yield
    finally:
        _KEPT.reset(token)


def _keep(caption: str, suffix: str, content: bytes) -> None:
    """Writes a file of those that ``keeping`` keeps, named by the beginning of a caption."""
    folder = _KEPT.get()
    if folder is not None:
        name = re.sub(r"[^a-z0-9]+", "_", caption.lower()).strip("_")[:60].rstrip("_")
        with atomic.replacing(folder / f"{name}{suffix}") as temporary:
            temporary.write_bytes(content)


def text(value: object) -> str:
    """Any value as HTML text; safe inside quoted attributes, too."""
    return html.escape(str(value), quote=True)


def paragraph(value: object, kind: str = "") -> str:
    """A paragraph; ``kind``: empty, ``note`` or ``missing``."""
    return f'<p class="{kind}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>"


def missing(value: object) -> str:
    """Says what could not be shown, and why."""
    return paragraph(value, "missing")


def heading(value: object) -> str:
    """A heading within a section."""
    return f"<h3>{text(value)}</h3>"


def code(value: object) -> str:
    """Text as it stands, e.g. a command."""
    return f"<pre><code>{text(value)}</code></pre>"


def folded(title: object, body: str) -> str:
    """HTML that is shown on a click."""
    return f"<details><summary>{text(title)}</summary>{body}</details>"


def bullets(values: Sequence[object]) -> str:
    """A list; nothing for no values."""
    return f"<ul>{''.join(f'<li>{text(value)}</li>' for value in values)}</ul>" if values else ""


def table(header: Sequence[object], rows: Sequence[Sequence[object]], caption: str) -> str:
    """A table with a caption; numbers are set to the right, None is a dash."""
    shown = [["–" if value is None else str(value) for value in row] for row in rows]
    if outputs.asked(outputs.LATEX) and caption:
        first = shown[0] if shown else [""] * len(header)
        sides = ["r" if _NUMBER.fullmatch(value) else "l" for value in first]
        latex = tables.tabular(caption, sides, [str(name) for name in header], shown)
        _keep(caption, ".tex", latex.encode())
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in header)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{text(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def figure(image: bytes, caption: str, *, pixels: bool = False) -> str:
    """An image with a caption, which is its alternative text, too.

    Args:
      image: a PNG or GIF file's content.
      caption: what is shown, with units.
      pixels: keep edges sharp where the image is enlarged.

    Raises:
      ValueError: the bytes are of neither kind.
    """
    kind = _KINDS.get(image[:4])
    if kind is None:
        raise ValueError("an image of the page must be PNG or GIF")
    data = base64.b64encode(image).decode("ascii")
    style = ' class="pixels"' if pixels else ""
    return (
        f'<figure><img{style} src="data:{kind};base64,{data}" alt="{text(caption)}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def drawn(draw: Callable[[Path], Any], caption: str) -> str:
    """A figure made by a function that writes a PNG file; says so if it cannot be drawn."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plot.png"
        try:
            draw(path)
            for other in outputs.beside(path):
                _keep(caption, other.suffix, other.read_bytes())
            return figure(path.read_bytes(), caption)
        except (ValueError, KeyError, IndexError, OSError) as error:
            return missing(f"Not drawn ({caption.split('.')[0]}): {error}")


def row(figures: Sequence[str]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="row">{"".join(figures)}</div>'


def markdown(source: str) -> str:
    """The Markdown that this toolkit writes, as HTML: headings, tables, lists, paragraphs.

    Anything else, HTML included, appears as the text that it is.
    """
    parts: list[str] = []
    for block in re.split(r"\n\s*\n", source.replace("\r\n", "\n").strip()):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        while lines and lines[0].startswith("#"):
            parts.append(f"<h4>{text(lines.pop(0).lstrip('# '))}</h4>")
        if not lines:
            continue
        if len(lines) > 1 and all(line.startswith("|") for line in lines):
            cells = [tables.cells(line) for line in lines]
            parts.append(table(cells[0], cells[2:], ""))
        elif all(line.startswith(("- ", "* ")) for line in lines):
            parts.append(bullets([line[2:] for line in lines]))
        else:
            parts.append(paragraph(" ".join(lines)))
    return "".join(parts)


def document(title: str, introduction: str, sections: Mapping[str, str]) -> str:
    """The whole page, with a table of contents.

    Args:
      title: text.
      introduction: HTML below the title.
      sections: title -> HTML, in order.
    """
    contents = "".join(
        f'<li><a href="#part-{number}">{text(name)}</a></li>'
        for number, name in enumerate(sections, 1)
    )
    bodies = "".join(
        f'<section><h2 id="part-{number}">{number}. {text(name)}</h2>{body}</section>'
        for number, (name, body) in enumerate(sections.items(), 1)
    )
    # An empty icon, as browsers otherwise ask the server for one.
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{text(title)}</title><style>{_STYLE}</style></head>'
        f"<body><h1>{text(title)}</h1>{introduction}"
        f'<nav aria-label="Contents"><strong>Contents</strong><ol>{contents}</ol></nav>'
        f"{bodies}</body></html>\n"
    )


def _cell(value: object) -> str:
    shown = "–" if value is None else str(value)
    kind = ' class="number"' if _NUMBER.fullmatch(shown) else ""
    return f"<td{kind}>{text(shown)}</td>"
