"""How this zarrcy was built and is set up."""

from __future__ import annotations

from typing import Any

__all__ = ["get_include", "show_config"]


def get_include() -> str:
    """The directory of the C header ``zarrcy/zarrcy.h``, for compilers that build an extension on zarrcy.

    Examples
    --------
    >>> import os
    >>> import zarrcy
    >>> os.path.exists(os.path.join(zarrcy.get_include(), "zarrcy", "zarrcy.h"))
    True
    """
    from pathlib import Path

    return str(Path(__file__).resolve().parent / "include")


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Show the version, the C libraries that were linked in and where they came from, and the threads in use.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print a table, or return a dictionary.

    Raises
    ------
    ValueError
        Another mode.

    Examples
    --------
    >>> import zarrcy
    >>> zarrcy.show_config("dicts")["codecs"]["from"] in ("wheels", "system")
    True
    """
    import sys

    import numpy as np

    import zarrcy
    from zarrcy.codecs.config import linked
    from zarrcy.thread_count import get_threads

    if mode not in ("stdout", "dicts"):
        raise ValueError(f'mode: expected "stdout" or "dicts", got {mode!r}')
    config: dict[str, Any] = {
        "zarrcy": zarrcy.__version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "threads": get_threads(),
        "codecs": linked(),
    }
    if mode == "dicts":
        return config
    for name, value in config.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for inner, text in value.items():
                print(f"  {inner}: {text}")
        else:
            print(f"{name}: {value}")
    return None
