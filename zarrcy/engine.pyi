names: frozenset[str]
