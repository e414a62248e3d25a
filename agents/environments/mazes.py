"""Three mazes of 13 x 13 cells: where OPEN's paper tests optimizers outside of its training tasks.

The designs are those of minimax (Apache-2.0), which follow Minigrid (Chevalier-Boisvert et
al. 2023), as GROOVE (Apache-2.0) uses them.
"""

# A wall is '#', a free cell '.'.
MAZES = {
    "standard_maze": (
        ".....#....#..",
        ".###.####.##.",
        ".#...........",
        ".########.###",
        "........#....",
        "######.#####.",
        "....#..#.....",
        ".##...##.####",
        "..#.#..#...#.",
        "#.#.##.###.#.",
        "#.#..#...#...",
        "#.##.###.###.",
        "...#...#.#...",
    ),
    "sixteen_rooms": (
        "...#..#..#...",
        ".........#...",
        "...#..#......",
        "#.###.##.###.",
        "...#.........",
        "......#..#...",
        "##.#.##.###.#",
        "...#.....#...",
        "...#..#......",
        ".####.##.#.##",
        "...#..#..#...",
        "......#......",
        "...#.....#...",
    ),
    "labyrinth": (
        ".............",
        ".###########.",
        ".#.........#.",
        ".#.#######.#.",
        ".#.#.....#.#.",
        ".#.#.###.#.#.",
        ".#.#.#.#.#.#.",
        ".#.#.#.#.#.#.",
        ".#...#...#.#.",
        ".#########.#.",
        ".....#.....#.",
        "####.#.#####.",
        ".....#.......",
    ),
}


def wall_cells(name: str) -> tuple[int, ...]:
    """The numbers of a maze's walls, its cells being numbered row by row from 0."""
    cells = "".join(MAZES[name])
    return tuple(i for i, cell in enumerate(cells) if cell == "#")
