"""Tables in Markdown."""

from collections.abc import Iterable, Sequence

_RULES = {"l": "---", "r": "---:"}


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """A table, without an end of its last line; bars in cells are escaped.

    Args:
      header: of the columns.
      rows: cells of each line.
      align: ``l`` or ``r`` for each column.
    """
    lines = [[cell.replace("|", "\\|") for cell in cells] for cells in (header, *rows)]
    lines.insert(1, [_RULES[side] for side in align])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
