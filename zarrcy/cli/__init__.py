"""The command line: ``zarrcy info``, ``tree``, ``ls``, ``copy``, ``validate``, ``repair``, ``stores`` and others.

It needs the extra ``zarrcy[cli]``. Each command makes a plain document (`zarrcy.cli.documents`, `zarrcy.cli.copying`,
`zarrcy.cli.validation`), which is printed as JSON, or shown to a person (`zarrcy.cli.human`): both say the same.

Exit codes: 0 fine; 1 the operation failed, or `validate` found a problem; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

EXIT_FAILED = 1
EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the program's name; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> from zarrcy.cli import main
    >>> main(["config", "--json"])  # doctest: +SKIP
    0
    """
    try:
        from zarrcy.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "click", "rich"):
            raise
        print(f"zarrcy: the command line: expected the packages typer and rich, got no {error.name}", file=sys.stderr)
        print('hint: pip install "zarrcy[cli]"', file=sys.stderr)
        return EXIT_USAGE
    return run(list(sys.argv[1:] if arguments is None else arguments))
