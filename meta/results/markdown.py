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


def excerpt(page: str, lines: int, columns: int) -> str:
    """A page that fits a screen: of its longest tables the first rows, and a line that says so.

    Args:
      page: Markdown.
      lines: of the screen, at least 1.
      columns: letters of one of its lines, over which longer ones are broken.
    """
    found = page.rstrip("\n").splitlines()
    longest = max((len(body) for body in _bodies(found)), default=1)
    for rows in range(longest, 0, -1):
        shown = _shortened(found, rows)
        if sum(_height(line, columns) for line in shown) <= lines:
            return "\n".join(shown) + "\n"
    kept, height = [], 1
    for line in _shortened(found, 1):
        height += _height(line, columns)
        if height > lines:
            break
        kept.append(line)
    return "\n".join([*kept, "..."]) + "\n"


def _height(line: str, columns: int) -> int:
    return max(1, -(-len(line) // columns))


def _bodies(lines: Sequence[str]) -> list[range]:
    """The places of each table's rows, without its header."""
    found, start = [], None
    for place, line in enumerate([*lines, ""]):
        is_row = line.startswith("|")
        if is_row and start is None:
            start = place
        elif not is_row and start is not None:
            found.append(range(start + 2, place))
            start = None
    return found


def _shortened(lines: Sequence[str], rows: int) -> list[str]:
    """The lines, with so many rows of each table."""
    out, done = [], 0
    for body in _bodies(lines):
        if len(body) > rows:
            end = body.start + rows
            out += [*lines[done:end], f"... and {len(body) - rows} more rows"]
            done = body.stop
    return [*out, *lines[done:]]
