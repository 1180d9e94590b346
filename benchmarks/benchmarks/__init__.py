"""The benchmarks that asv runs: opening, reading, writing, selecting, codecs, and the rows of docs/performance.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `comparison`, which is no benchmark of asv
