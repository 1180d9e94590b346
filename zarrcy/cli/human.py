"""What a person sees of a document: rich renderables, made of `Text`, so that no stored name is read as markup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from zarrcy.display import format_nbytes, printable

Document = dict[str, Any]

# Wide enough that nothing is cut or wrapped where the output goes to a file or a pipe.
PIPE_WIDTH = 10_000

TIMES = " \N{MULTIPLICATION SIGN} "

NODE_STYLES = {"group": "bold blue", "array": "green"}


def show(renderable: RenderableType) -> None:
    """Print on standard output: colours and the width of the window on a terminal, plain unwrapped lines elsewhere."""
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(renderable)
        return
    console.width = PIPE_WIDTH
    with console.capture() as captured:
        console.print(renderable)
    for line in captured.get().splitlines():
        print(line.rstrip())


class Ticker(Protocol):
    """What a long operation tells of its progress."""

    def __call__(self, label: str, done: int, total: int | None) -> None: ...


@contextmanager
def progress(*, quiet: bool, in_bytes: bool = False) -> Iterator[Ticker]:
    """A progress bar on standard error, if that is a terminal; it goes away at the end."""
    err = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if quiet or not err.is_terminal:
        yield lambda label, done, total: None
        return
    amount = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None)

        def tick(label: str, done: int, total: int | None) -> None:
            bar.update(task, description=plain(label) or "/", completed=done, total=total)

        yield tick


def plain(text: object) -> str:
    """`text` on one line, with every character escaped that could move the cursor or hide another."""
    return printable(str(text), len(str(text)))


def nbytes(n: int | None) -> str:
    """A number of bytes for a person, such as ``"1.5 MiB"``; empty where there is none."""
    return "" if n is None else format_nbytes(n)


def count(n: int, one: str, many: str = "") -> str:
    """A number with its noun, such as ``"1 array"`` or ``"2 arrays"``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def shape(extents: Sequence[int] | None) -> str:
    """A shape, its extents joined by `TIMES`; ``"scalar"`` for no axis."""
    if extents is None:
        return "none"
    return TIMES.join(map(str, extents)) or "scalar"


def ratio(document: Document) -> str:
    stored = document["nbytes_stored"]
    return f" ({document['nbytes'] / stored:.2f} times smaller)" if stored and document["nbytes"] > stored else ""


def name_of(node: Document) -> Text:
    return Text(plain(node["name"]) or "/", NODE_STYLES[node["node_type"]])


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for left, right in rows:
        table.add_row(Text(left), Text(right))
    return table


def columns(titles: Sequence[str], rows: Iterable[Sequence[str | Text]], right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold", no_wrap=title in right)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in row))
    return table


def info(document: Document) -> RenderableType:
    rows = info_array(document) if document["node_type"] == "array" else info_group(document)
    parts: list[RenderableType] = [title(document), pairs(rows)]
    if document["attributes"]:
        attributes = ((plain(name), json_text(value)) for name, value in document["attributes"].items())
        parts += [Text("attributes", "dim"), Padding(pairs(attributes), (0, 0, 0, 2))]
    return Group(*parts)


def title(document: Document) -> Text:
    place = plain(document["store"]) + (f"  {plain(document['path'])}" if document["path"] else "")
    return Text(place, NODE_STYLES[document["node_type"]])


def info_array(document: Document) -> Iterator[tuple[str, str]]:
    yield "node", f"array, Zarr v{document['zarr_format']}"
    yield "shape", shape(document["shape"])
    if document["dimension_names"]:
        yield "dimensions", ", ".join(plain(name) if name is not None else "-" for name in document["dimension_names"])
    yield "data type", plain(document["dtype"])
    yield (
        "chunks",
        f"{shape(document['chunks'])}, {document['nchunks_initialized']:,} of {document['nchunks']:,} stored",
    )
    if document["shards"] is not None:
        yield "shards", shape(document["shards"])
    yield "fill value", json_text(document["fill_value"])
    yield "codecs", " → ".join(codec_text(codec) for codec in document["codecs"])
    yield "size", nbytes(document["nbytes"])
    yield "stored", nbytes(document["nbytes_stored"]) + ratio(document)


def info_group(document: Document) -> Iterator[tuple[str, str]]:
    yield "node", f"group, Zarr v{document['zarr_format']}"
    yield "groups", ", ".join(map(plain, document["groups"])) or "none"
    yield "arrays", ", ".join(map(plain, document["arrays"])) or "none"


def json_text(value: object) -> str:
    return plain(json.dumps(value, ensure_ascii=False))


def codec_text(codec: Document) -> str:
    """A codec with its arguments; of a shard, the codecs of its inner chunks."""
    configuration = codec.get("configuration", {})
    if "index_codecs" in configuration:
        return f"{plain(codec['name'])}[{' → '.join(map(codec_text, configuration['codecs']))}]"
    arguments = ", ".join(f"{plain(name)}={json_text(value)}" for name, value in configuration.items())
    return plain(codec["name"]) + (f"({arguments})" if arguments else "")


def tree(document: Document) -> RenderableType:
    def grow(branch: Tree, node: Document) -> Tree:
        for child in node["children"]:
            grow(branch.add(label(child)), child)
        return branch

    root = document["root"]
    return grow(Tree(label({**root, "name": root["name"] or document["store"]}), guide_style="dim"), root)


def label(node: Document) -> Text:
    text = name_of(node)
    if node["node_type"] == "array":
        text.append(f"  {shape(node['shape'])}  {plain(node['dtype'])}", "not bold default")
    return text


def ls(document: Document) -> RenderableType:
    entries = document["entries"]
    shown = []
    for entry in entries:
        name = plain(entry["path" if document["recursive"] else "name"])
        shown.append(Text(name + ("/" if entry["node_type"] == "group" else ""), NODE_STYLES[entry["node_type"]]))
    if not document["long"]:
        return Group(*shown)
    rows = (
        (
            entry["node_type"],
            shape(entry["shape"]) if entry["node_type"] == "array" else "",
            entry["dtype"] or "",
            nbytes(entry["nbytes"]) if entry["node_type"] == "array" else "",
            nbytes(entry["nbytes_stored"]),
            text,
        )
        for entry, text in zip(entries, shown)
    )
    return columns(("node", "shape", "data type", "size", "stored", "name"), rows, right=("size", "stored"))


def copied(document: Document) -> RenderableType:
    what = f"{count(document['arrays'], 'array')} and {count(document['groups'], 'group')}"
    speed = document["nbytes"] / document["seconds"] if document["seconds"] else 0
    line = f"copied {what}: {nbytes(document['nbytes'])} in {document['seconds']:.2f} s ({nbytes(int(speed))}/s)"
    return Text(f"{line}, stored as {nbytes(document['nbytes_stored'])} in {plain(document['target'])}")


def synced(document: Document) -> RenderableType:
    line = f"copied {count(document['copied'], 'value')}, {nbytes(document['nbytes'])}, to "
    line += f"{count(len(document['targets']), 'store')} in {document['seconds']:.2f} s"
    return Text(f"{line}; {document['unchanged']} were there already, {document['deleted']} deleted")


def validated(document: Document) -> RenderableType:
    checked = document["checked"]
    nodes = f"{count(checked['groups'], 'group')}, {count(checked['arrays'], 'array')}"
    decoded = f"{nbytes(checked['nbytes_decoded'])} decoded" if document["deep"] else "none decoded"
    line = f"checked {nodes}, {count(checked['chunks'], 'stored chunk')}, {decoded}"
    parts: list[RenderableType] = [Text(line)]
    if document["problems"]:
        rows = ((Text(plain(p["key"]), "bold"), p["code"], p["reason"]) for p in document["problems"])
        parts += [columns(("key", "problem", "reason"), rows)]
    if document["unknown_keys"]:
        keys = (Text("  " + plain(key)) for key in document["unknown_keys"])
        parts += [Text("keys that belong to no array or group", "yellow"), *keys]
    found = len(document["problems"])
    parts.append(Text(count(found, "problem"), "bold red") if found else Text("no problem", "green"))
    return Group(*parts)


def repaired(document: Document) -> RenderableType:
    return Group(*(Text(plain(line)) for line in document["done"] or ["nothing to repair"]))


def diagnosed(document: Document) -> RenderableType:
    marks = {True: Text("ok", "green"), False: Text("failed", "bold red"), None: Text("-", "dim")}
    rows = []
    for step in document["steps"]:
        rows.append([step["step"], marks[step["ok"]], step["says"]])
        rows.extend(["", "", Text(plain(f"hint: {hint}"), "dim")] for hint in step["hints"])
    return Group(Text(plain(document["store"]), "bold"), columns(("step", "", "what it says"), rows))


def cost(document: Document) -> RenderableType:
    parts = ("storage", "put", "get", "list", "egress", "total")
    rows = (
        [Text(e["service"], "bold"), *(f"{e[name]:.2f}" for name in parts), e["region"]] for e in document["estimates"]
    )
    amount = f"{document['n_objects']:,} objects, {format_nbytes(document['nbytes_stored'])}"
    times = f"written {document['writes']:g}, read {document['reads']:g}, listed {document['listings']:g} times a month"
    return Group(
        Text(f"{plain(document['store'])}: {amount}, {times}"),
        Text(f"US$ a month, list prices of {document['prices_of']}", "dim"),
        columns(("service", *parts, "prices of"), rows, right=parts),
    )


def stores(document: Document) -> RenderableType:
    titles = ("store", "type", "persistence", "scalability", "latency", "use")
    rows = ([Text(plain(s["name"]), "bold"), *(s[title] for title in titles[1:])] for s in document["stores"])
    return columns(titles, rows)


def codecs(document: Document) -> RenderableType:
    rows = ([Text(plain(c["name"]), "bold"), c["from"]] for c in document["codecs"])
    parts: list[RenderableType] = [columns(("codec", "from"), rows)]
    if document["numcodecs"] is not None:
        parts.append(Text(f"and every other codec of numcodecs {plain(document['numcodecs'])}, as numcodecs.NAME"))
    libraries = ((plain(name), plain(version)) for name, version in document["libraries"].items())
    return Group(*parts, Text(), Text("linked libraries", "bold"), pairs(libraries))


def config(document: Document) -> RenderableType:
    return pairs((plain(name), config_text(value)) for name, value in document.items())


def config_text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{plain(name)} {plain(text)}" for name, text in value.items())
    return plain(value)
