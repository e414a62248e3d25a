"""Tables of a Markdown page read back: their cells, and the same tables for LaTeX."""

import re
from collections.abc import Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def cells(line: str) -> list[str]:
    r"""The cells of a Markdown table's line; ``\|`` is a letter of a cell."""
    parts = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return [part.strip().replace("\\|", "|") for part in parts]


def latex(page: str) -> dict[str, str]:
    """The tables of a page as LaTeX, for the package ``booktabs``.

    Args:
      page: Markdown as this toolkit writes it.

    Returns:
      For each table a name, made of the heading above it, and its ``tabular``, for a document to
      take in.
    """
    found: dict[str, str] = {}
    heading, lines = "table", page.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("#"):
            heading = line.lstrip("# ")
        is_rule = re.fullmatch(r"\|( ---:? \|)+", line.strip())
        if not is_rule or not number:
            continue
        body = []
        for row in lines[number + 1 :]:
            if not row.startswith("|"):
                break
            body.append(cells(row))
        plain = re.sub(r"[^a-z0-9]+", "_", heading.lower()).strip("_") or "table"
        names = (plain, *(f"{plain}_{count}" for count in range(2, 2 + len(found))))
        name = next(name for name in names if name not in found)
        sides = ["r" if cell.endswith(":") else "l" for cell in cells(line)]
        found[name] = tabular(heading, sides, cells(lines[number - 1]), body)
    return found


def tabular(
    title: str, sides: Sequence[str], header: Sequence[str], body: Sequence[Sequence[str]]
) -> str:
    """A table for LaTeX.

    Args:
      title: of one line, for a comment.
      sides: ``l`` or ``r`` for each column.
      header, body: texts, which are escaped.
    """
    rows = [r"\toprule", _row(header), r"\midrule", *map(_row, body), r"\bottomrule"]
    return "\n".join(
        [
            f"% {title}; needs \\usepackage{{booktabs}}",
            rf"\begin{{tabular}}{{{''.join(sides)}}}",
            *rows,
            r"\end{tabular}",
            "",
        ]
    )


def _row(texts: Sequence[str]) -> str:
    return " & ".join("".join(_SPECIAL.get(c, c) for c in text) for text in texts) + r" \\"
