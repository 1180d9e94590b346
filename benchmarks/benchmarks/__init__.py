"""The benchmarks that asv runs: opening, reading, writing, selecting, codecs. Public names of zarrcy only."""
