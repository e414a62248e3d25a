"""Names that a user gave, and the known ones that they may stand for."""

import difflib


def did_you_mean(name: str, known: list[str]) -> str:
    """`` (did you mean 'x'?)`` or an empty string."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
