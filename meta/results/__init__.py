"""From the rows of a run to numbers and figures; the table itself is this package's face."""

from meta.results.table import (
    COLUMNS,
    Row,
    Table,
    append,
    area_under_curve,
    curves,
    final_returns,
    from_rows,
    is_untrained,
    known_curves,
    read,
    refuse_failed,
    select,
    to_rows,
    trained,
    untrained,
)

__all__ = [
    "COLUMNS",
    "Row",
    "Table",
    "append",
    "area_under_curve",
    "curves",
    "final_returns",
    "from_rows",
    "is_untrained",
    "known_curves",
    "read",
    "refuse_failed",
    "select",
    "to_rows",
    "trained",
    "untrained",
]
