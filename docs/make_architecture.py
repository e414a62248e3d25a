"""Draws who may import whom, from the table that tests/test_layout.py checks.

python docs/make_architecture.py    # writes docs/architecture.svg
"""

import importlib.util
import itertools
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent
LAYOUT = DOCS.parent / "tests" / "test_layout.py"

WIDTH, MARGIN, TITLE, HEIGHT, GAP, CHARACTER = 960, 20, 30, 34, 30, 7.3
Table = dict[str, tuple[str, ...]]


def may_import() -> Table:
    """The table: unit -> what it may import."""
    spec = importlib.util.spec_from_file_location("layout", LAYOUT)
    layout = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layout)
    return layout.MAY_IMPORT


def package_of(name: str) -> str:
    """``meta`` of ``meta.runs``."""
    return name.partition(".")[0]


def packages_of(table: Table) -> Table:
    """Top-level packages -> the others that they import."""
    packages: dict[str, set[str]] = {}
    for unit, names in table.items():
        known = packages.setdefault(package_of(unit), set())
        known |= {package_of(name) for name in names} - {package_of(unit)}
    return {package: tuple(sorted(names)) for package, names in packages.items()}


def boxes_of(package: str, table: Table) -> Table:
    """Boxes within a package -> those below that they import.

    They are its sub-packages, and one of the modules beside them that these import.
    """
    units = [unit for unit in table if unit.startswith(package + ".")]
    ground = sorted(
        {
            name
            for unit in units
            for name in table[unit]
            if name.startswith(package + ".") and name not in units
        }
    )
    beside = ", ".join(name.removeprefix(package + ".") for name in ground)
    boxes: Table = {beside: ()} if beside else {}
    for unit in units:
        known = {name for name in table[unit] if name in units and name != unit}
        known |= {beside} if set(ground) & set(table[unit]) else set()
        known |= set(units) - {unit} if package in table[unit] else set()
        boxes[unit] = tuple(sorted(known))
    return boxes


def floors(boxes: Table) -> list[list[str]]:
    """Boxes by floor, the ground first: each stands above all that it imports."""

    def floor(box: str) -> int:
        return 1 + max(map(floor, boxes[box]), default=-1)

    rows: dict[int, list[str]] = {}
    for box in boxes:
        rows.setdefault(floor(box), []).append(box)
    return [rows[number] for number in sorted(rows)]


def direct(boxes: Table, box: str) -> list[str]:
    """What a box imports and does not reach by way of another."""

    def below(other: str) -> set[str]:
        return set(boxes[other]).union(*map(below, boxes[other]))

    return [name for name in boxes[box] if not any(name in below(o) for o in boxes[box])]


def draw_package(package: str, table: Table, top: int) -> tuple[list[str], int]:
    """The SVG of a package with its boxes, and where it ends."""
    boxes = boxes_of(package, table)
    rows = floors(boxes)[::-1]
    bottom = top + TITLE + len(rows) * (HEIGHT + GAP) - (GAP - 10 if rows else 0)
    others = packages_of(table)[package]
    text = f"imports {', '.join(others)}" if others else "imports none of these"
    lines = [
        f'<rect class="package" x="{MARGIN}" y="{top}" width="{WIDTH - 2 * MARGIN}" '
        f'height="{bottom - top}" rx="6"/>',
        f'<text class="title" x="{MARGIN + 12}" y="{top + 20}">{package}/</text>',
        f'<text class="imports" x="{WIDTH - MARGIN - 12}" y="{top + 20}">{text}</text>',
    ]
    places: dict[str, tuple[float, float, float]] = {}
    for number, row in enumerate(rows):
        y = top + TITLE + number * (HEIGHT + GAP)
        share = (WIDTH - 2 * MARGIN) / len(row)
        for column, box in enumerate(row):
            label = box.removeprefix(package + ".")
            width = len(label) * CHARACTER + 24
            x = MARGIN + share * (column + 0.5)
            places[box] = (x, y, width)
            lines += [
                f'<rect class="box" x="{x - width / 2:.1f}" y="{y}" width="{width:.1f}" '
                f'height="{HEIGHT}" rx="4"/>',
                f'<text class="label" x="{x:.1f}" y="{y + 22}">{escape(label)}</text>',
            ]
    for box in boxes:
        for other in direct(boxes, box):
            (x, y, _), (to_x, to_y, _) = places[box], places[other]
            lines.append(
                f'<line x1="{x:.1f}" y1="{y + HEIGHT}" x2="{to_x:.1f}" y2="{to_y - 3}" '
                'marker-end="url(#tip)"/>'
            )
    return lines, bottom


STYLE = """\
text { font: 13px sans-serif; fill: #222 }
.title { font-weight: bold } .imports { text-anchor: end; fill: #666 }
.label { text-anchor: middle; font-family: monospace; font-size: 12px }
.package { fill: #f6f6f4; stroke: #bbb } .box { fill: #fff; stroke: #0072b2 }
line { stroke: #666; stroke-width: 1.2 }"""


def figure(table: Table) -> str:
    """The whole figure as SVG; a package stands above all that it imports."""
    body, top = [], MARGIN
    for package in itertools.chain(*floors(packages_of(table))[::-1]):
        lines, bottom = draw_package(package, table, top)
        body += lines
        top = bottom + 14
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}">\n'
        f"<style>\n{STYLE}\n</style>\n"
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 8 4 0 8z" fill="#666"/></marker>\n'
        f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>'
    )
    return "\n".join([head, *body, "</svg>"]) + "\n"


if __name__ == "__main__":
    (DOCS / "architecture.svg").write_text(figure(may_import()), encoding="utf-8")
