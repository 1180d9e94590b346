"""What benchmarks/compare.py is made of: data, the reference in C, peers, rows, rounds, report."""
