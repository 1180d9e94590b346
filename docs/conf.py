"""Sphinx configuration. Build with scripts/docs: a warning is an error."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent

project = "zarrcy"
copyright = "the zarrcy authors"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "requirements.txt"]
html_theme = "pydata_sphinx_theme"
html_title = f"zarrcy {release}"
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": []}
html_show_sourcelink = False

myst_heading_anchors = 3
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
nitpicky = True
nitpick_ignore_regex = [
    # The standard library's own pages: building needs no network.
    ("py:.*", r"(abc|collections|os|typing|numpy)\..*"),
    # Private bases, which a class page names.
    ("py:class", r"zarrcy\.(frozen\.Frozen|transfer\.ArrayBase|node\.Node|stores\.sqlite_values\.TableStore)"),
    # Parameters in single backticks.
    ("py:obj", r"[a-z_]+"),
]
# `name` in a docstring is a Python object where one of that name exists, and literal text elsewhere.
default_role = "autolink"
