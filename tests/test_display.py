"""What people see: one line, a table, a tree, a picture. It is well-formed, escaped, short and true."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrcy.display import (
    MAX_VALUE,
    Info,
    array_html,
    array_info,
    array_repr,
    format_nbytes,
    printable,
    tree_html,
    tree_text,
)
from zarrcy.grid_svg import chunk_grid_svg

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert('1')</script>\" onload=\"x\n\u202e\x00&amp;"
TAGS = {"div", "table", "tbody", "tr", "th", "td", "ul", "li", "b", "details", "summary"}
TAGS |= {"svg", "title", "g", "path", "text"}
few = settings(max_examples=300, derandomize=True, deadline=None, database=None)


def parsed(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


def text_of(markup: str) -> str:
    return "".join(parsed(markup).itertext())


def check_harmless(markup: str) -> None:
    for element in parsed(markup).iter():
        tag = element.tag.removeprefix(SVG)
        assert tag in TAGS, tag
        assert not any(name.startswith("on") or name in ("href", "src") for name in element.attrib)
    assert markup.isprintable(), "nothing invisible, no control characters"


# Sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (8_000_000, "7.6 MiB"),
        (1024**3, "1.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (2**63, "8.0 EiB"),
        (3 * 1024**9, "3072.0 YiB"),
    ],
)
def test_sizes_are_given_in_binary_units(nbytes, text):
    assert format_nbytes(nbytes) == text


@few
@given(st.integers(0, 2**80))
def test_a_size_is_within_one_twentieth_of_the_number(nbytes):
    number, unit = format_nbytes(nbytes).split()
    scale = 1 if unit.startswith("byte") else 1024 ** (" KMGTPEZY".index(unit[0]))
    assert abs(float(number) * scale - nbytes) <= scale * 0.051
    assert float(number) < 1024 or scale == 1024**8


# Text -------------------------------------------------------------------------------------------------------------


def test_text_that_would_disturb_a_terminal_is_escaped():
    assert printable("a\tb\x1b[31m\u202e\u2028\ud800ü→語") == "a\\tb\\x1b[31m\\u202e\\u2028\\ud800ü→語"
    assert printable("x" * 1000) == "x" * MAX_VALUE + "…"


def test_one_line_names_type_path_data_type_shape_chunks_and_size():
    text = array_repr(shape=(100, 200), dtype="float32", chunk_shape=(10, 20), path="/path", nbytes=8_000_000)
    assert text == "<zarrcy.Array /path float32 (100, 200), chunks (10, 20), 7.6 MiB>"


def test_one_line_names_shards():
    text = array_repr(shape=(9,), dtype="|S3", chunk_shape=(3,), shard_shape=(6,), path="/a\nb")
    assert text == "<zarrcy.Array /a\\nb |S3 (9,), chunks (3,) in shards (6,)>"


def test_one_line_of_an_array_of_no_axes():
    assert array_repr(shape=(), dtype="int8", chunk_shape=(), path="/", nbytes=1) == (
        "<zarrcy.Array / int8 (), chunks (), 1 byte>"
    )


def full_info() -> Info:
    return array_info(
        shape=(np.int64(365), 720, 1440),
        dtype="float32",
        chunk_shape=(5, 90, 90),
        shard_shape=(73, 360, 720),
        zarr_format=3,
        path="/climate/t",
        store="memory://1",
        read_only=False,
        fill_value=np.float32("nan"),
        order="C",
        dimension_names=("time", None, "lon\n"),
        codecs=["bytes", "zstd"],
        nbytes=1000,
        nbytes_stored=2_000_000,
        n_chunks=30,
        n_chunks_initialized=29,
    )


def test_the_table_says_all():
    assert str(full_info()) == repr(full_info())
    assert str(full_info()).splitlines() == [
        "Type                zarrcy.Array",
        "Zarr format         3",
        "Path                /climate/t",
        "Store               memory://1",
        "Read-only           no",
        "Shape               (365, 720, 1440)",
        "Dimension names     'time', -, 'lon\\n'",
        "Chunk shape         (5, 90, 90)",
        "Shard shape         (73, 360, 720)",
        "Data type           float32",
        "Fill value          nan",
        "Order               C",
        "Codecs              bytes, zstd",
        "Bytes               1000 bytes",
        "Bytes stored        1.9 MiB (2,000,000 bytes)",
        "Storage ratio       0.00",
        "Chunks initialized  29 of 30 (96.6 %)",
    ]


def test_what_is_none_has_no_row():
    info = array_info(shape=(4,), dtype="int8", chunk_shape=(2,), nbytes=4, nbytes_stored=0)
    labels = [label for label, _ in info.rows]
    assert labels == ["Type", "Shape", "Chunk shape", "Data type", "Bytes", "Bytes stored"]


def test_only_all_chunks_are_one_hundred_percent():
    def initialized(n: int, total: int) -> str:
        info = array_info(shape=(1,), dtype="i1", chunk_shape=(1,), n_chunks=total, n_chunks_initialized=n)
        return dict(info.rows)["Chunks initialized"]

    assert initialized(99_999, 100_000) == "99,999 of 100,000 (99.9 %)"
    assert initialized(4, 4) == "4 of 4 (100 %)"
    assert initialized(0, 0) == "0 of 0"


def test_a_table_takes_pairs_and_mappings():
    pairs = [("Shape", (1, np.int64(2))), ("Names", ["a", "b"]), ("Gone", None), ("Yes", True), ("Empty", ())]
    expected = [("Shape", "(1, 2)"), ("Names", "a, b"), ("Yes", "yes"), ("Empty", "()")]
    assert Info(pairs).rows == Info(dict(pairs)).rows == expected
    assert str(Info({})) == ""


def test_a_long_or_many_line_value_stays_on_its_line():
    info = Info({"Fill value": "\n" * 10_000, "X": 1})
    assert len(str(info).splitlines()) == 2 and len(str(info)) < 3 * MAX_VALUE
    assert len(info._repr_html_()) < 5 * MAX_VALUE


# HTML -------------------------------------------------------------------------------------------------------------


def test_html_is_escaped_wherever_a_user_wrote_it():
    info = array_info(
        shape=(4, 4),
        dtype=EVIL,
        chunk_shape=(2, 2),
        path=EVIL,
        store=EVIL,
        fill_value=EVIL,
        order=EVIL,
        dimension_names=[EVIL, EVIL],
        codecs=[EVIL],
        filters=EVIL,
        compressor=EVIL,
        type_name=EVIL,
    )
    html = info._repr_html_()
    check_harmless(html)
    assert "<script" not in html
    assert text_of(html).count("<script>alert") >= 10, "it is shown, as text"
    check_harmless(array_html(shape=(4,), dtype=EVIL, chunk_shape=(2,), path=EVIL, dimension_names=[EVIL]))
    check_harmless(Info({EVIL: EVIL})._repr_html_())
    check_harmless(tree_html([(EVIL, "array", EVIL), ("a/" + EVIL + "/b", "group", EVIL)]))


@few
@given(st.text(st.characters(), max_size=40), st.sampled_from(["group", "array"]))
def test_any_text_gives_harmless_markup(text, kind):
    check_harmless(Info({text: text})._repr_html_())
    check_harmless(tree_html([(text, kind, text)]))
    assert len(tree_text([("n", kind, text)]).splitlines()) == 2


def test_the_table_stands_beside_the_picture():
    root = parsed(full_info()._repr_html_())
    assert root.find(".//table") is not None and root.find(f".//{SVG}svg") is not None
    headers = [header.text for header in root.iter("th")]
    assert headers[0] == "Type" and headers[-1] == "Chunks initialized"
    assert parsed(array_html(shape=(), dtype="i1", chunk_shape=(), path="/")).find(f".//{SVG}svg") is None


# The tree ---------------------------------------------------------------------------------------------------------

NODES = [
    ("sea/t", "array", "(10,) float32"),
    ("", "group", "3 members"),
    ("sea", "group", ""),
    ("/lat", "array", "(5,)"),
    ("x/y/z", "array", ""),
]


def test_a_tree_is_drawn_with_lines():
    assert tree_text(NODES).splitlines() == [
        "/ 3 members",
        "├── lat (5,)",
        "├── sea/",
        "│   └── t (10,) float32",
        "└── x/",
        "    └── y/",
        "        └── z",
    ]


def test_the_order_of_the_nodes_does_not_matter():
    assert {tree_text(order) for order in itertools.permutations(NODES)} == {tree_text(NODES)}
    assert {tree_html(order) for order in itertools.permutations(NODES)} == {tree_html(NODES)}


def test_an_empty_tree_is_its_root():
    assert tree_text([]) == "/"
    assert text_of(tree_html([])).strip() == "/"


def test_control_characters_in_names_are_shown_escaped():
    assert tree_text([("a\n├── b", "group", ""), ("\u202egpj", "array", "\x1b[2J")]).splitlines() == [
        "/",
        "├── a\\n├── b/",
        "└── \\u202egpj \\x1b[2J",
    ]


def test_a_tree_reads_no_more_nodes_than_it_shows():
    taken = []

    def endless():
        for i in range(1000):
            taken.append(i)
            yield f"{i:09}", "array", ""

    lines = tree_text(endless(), max_nodes=20).splitlines()
    assert len(taken) == 21 and len(lines) == 22 and lines[-1] == "… only 20 nodes are shown"
    assert "only 20 nodes are shown" in text_of(tree_html(endless(), max_nodes=20))
    assert "only" not in tree_text([("a", "array", ""), ("b", "array", "")], max_nodes=2)


def test_a_deep_tree_is_drawn_too():
    path = "/".join(["d"] * 3000)
    assert len(tree_text([(path, "array", "")]).splitlines()) == 3001
    assert tree_html([(path, "array", "")]).count("<li>") == 3001


def test_a_tree_in_html_nests_as_the_paths_do():
    root = parsed(tree_html(NODES))
    names = {"".join(b.itertext()) for b in root.iter("b")}
    assert names == {"/", "lat", "sea/", "t", "x/", "y/", "z"}
    sea = next(item for item in root.iter("li") if item.findtext("details/summary/b") == "sea/")
    assert [b.text for b in sea.iterfind("details/ul/li/b")] == ["t"]


# The picture ------------------------------------------------------------------------------------------------------

lengths = st.one_of(st.integers(1, 30), st.integers(1, 10**6), st.just(2**62))


@st.composite
def grids(draw):
    shape = tuple(draw(st.lists(lengths, min_size=1, max_size=5)))
    chunk_shape = tuple(draw(st.integers(1, length + 3)) for length in shape)
    shards = tuple(chunk * draw(st.integers(1, 5)) for chunk in chunk_shape)
    return shape, chunk_shape, draw(st.sampled_from([None, shards]))


@few
@given(grids())
def test_a_picture_is_small_and_its_lines_lie_inside(grid):
    svg = chunk_grid_svg(*grid)
    check_harmless(svg)
    assert len(svg.encode()) <= 4096
    root = parsed(svg)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (root.attrib["width"], root.attrib["height"]) == tuple(root.attrib["viewBox"].split()[2:])
    assert width < 420 and height < 250
    for path in root.iter(f"{SVG}path"):
        for x, y in points(path.attrib["d"]):
            assert left <= x <= left + width and top <= y <= top + height
    for label in root.iter(f"{SVG}text"):
        assert top + 8 <= float(label.attrib["y"]) <= top + height


def test_the_largest_picture_is_small():
    # As many lines as there can be, on three sides, for chunks and shards, at positions of many digits.
    shape = (4320378306857760406, 4334016524854176481, 4366454557211528607)
    chunk_shape = (23489461880817632, 13371701714252340, 8089407208442890)
    assert len(chunk_grid_svg(shape, chunk_shape, tuple(2 * length for length in chunk_shape))) <= 4096


def points(d: str):
    """The corners of a path made of M, h, v, l and z."""
    x = y = 0.0
    for command, numbers in re.findall(r"([Mhvlz])([-\d. ]*)", d):
        values = [float(number) for number in numbers.split()]
        if command == "M":
            x, y = values
        elif command == "h":
            x += values[0]
        elif command == "v":
            y += values[0]
        elif command == "l":
            x, y = x + values[0], y + values[1]
        yield x, y


def chunk_lines(svg: str) -> str:
    return next(path.attrib["d"] for path in parsed(svg).iter(f"{SVG}path") if "stroke-opacity" in path.attrib)


def test_each_border_between_chunks_is_one_line():
    assert chunk_lines(chunk_grid_svg((100,), (10,))).count("M") == 11 + 2
    assert chunk_lines(chunk_grid_svg((100, 40), (10, 20))).count("M") == 11 + 3
    assert chunk_lines(chunk_grid_svg((40, 40, 40), (20, 10, 40))).count("M") == 3 + 5 + 2
    assert chunk_lines(chunk_grid_svg((7, 7), (5, 5))).count("M") == 3 + 3


def test_a_line_stands_where_the_chunk_ends():
    xs = [float(x) for x in re.findall(r"M([\d.]+) ", chunk_lines(chunk_grid_svg((6, 6), (6, 2))))]
    assert xs[:4] == [0, 50, 100, 150]


def test_lines_never_stand_too_close():
    for shape, chunk_shape in [((10**9,), (1,)), ((10**6, 10**6), (1, 7)), ((400, 400), (3, 3))]:
        lines = [
            re.match(r"([\d.]+) [\d.]+(.)", move)
            for move in chunk_lines(chunk_grid_svg(shape, chunk_shape)).split("M")[1:]
        ]
        xs = [float(line[1]) for line in lines if line[2] == "v"]
        assert len(xs) >= 10
        assert min(b - a for a, b in itertools.pairwise(xs[:-1])) >= 7.9


def test_the_title_says_in_words_what_is_drawn():
    root = parsed(chunk_grid_svg((9, 10, 10), (2, 5, 5), (4, 10, 10)))
    words = "20 chunks of shape (2, 5, 5) in shards of shape (4, 10, 10) in an array of shape (9, 10, 10)"
    assert root.findtext(f"{SVG}title") == root.attrib["aria-label"] == words
    assert root.attrib["role"] == "img"
    assert "its last three axes are drawn" in chunk_grid_svg((2, 2, 2, 2), (1, 1, 1, 1))


def test_shards_are_drawn_strongly():
    assert chunk_grid_svg((8, 8), (1, 1), (4, 4)).count('stroke-width="1.4"') == 2
    assert chunk_grid_svg((8, 8), (1, 1)).count('stroke-width="1.4"') == 1


def test_the_picture_takes_the_colours_of_the_page():
    svg = chunk_grid_svg((8, 8, 8), (1, 2, 4), (4, 4, 4))
    assert set(re.findall(r'(?:fill|stroke)="(.*?)"', svg)) == {"none", "currentColor"}


@pytest.mark.parametrize("shape", [(), (0,), (5, 0), (0, 5, 5), (0, 1, 1, 1)])
def test_there_is_no_picture_of_nothing(shape):
    assert chunk_grid_svg(shape, tuple(1 for _ in shape)) == ""
