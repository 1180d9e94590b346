"""Compiled loops over bytes, items and chunks. They hold no policy, see no Python object and cannot fail silently."""
