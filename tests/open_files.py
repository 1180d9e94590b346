"""What this process has open."""

from __future__ import annotations

import collections
import contextlib
import sys
from pathlib import Path


def open_files() -> collections.Counter[str]:
    """The files, directories and pipes that this process has open, by name.

    Without the sockets: threads of the clients of earlier tests open and close them meanwhile. Where names are not to
    be had, the numbers of all.
    """
    names: collections.Counter[str] = collections.Counter()
    for link in Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile, as the directory itself
            name = str(link.readlink()) if sys.platform == "linux" else link.name
            if not name.startswith("socket:"):
                names[name] += 1
    return names
