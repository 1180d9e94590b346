"""The commands: each opens what it is told, makes a document, and prints it."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from typer.main import get_command

import zarrcy
from zarrcy.cli import EXIT_FAILED, EXIT_USAGE, copying, diagnosis, documents, human, validation
from zarrcy.errors import ZarrcyError

__all__ = ["app", "run"]

Document = dict[str, Any]
UsageError: type[Exception] = typer.BadParameter.__bases__[0]

StoreArgument = Annotated[str, typer.Argument(help="Path or URL of a store.", metavar="STORE", show_default=False)]
PathArgument = Annotated[str, typer.Argument(help="Path of an array or a group in the store.", metavar="[PATH]")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

app = typer.Typer(
    name="zarrcy",
    help="Look at, copy and check Zarr v2 and v3 hierarchies.",
    invoke_without_command=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"zarrcy {zarrcy.__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Look at, copy and check Zarr v2 and v3 hierarchies."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(EXIT_USAGE)


@app.command()
def info(store: StoreArgument, path: PathArgument = "", as_json: JsonOption = False) -> None:
    """Show what an array or a group is: shape, chunks, codecs, attributes, sizes."""
    with documents.opened(store) as opened:
        present(documents.info(opened, path), human.info, as_json)


@app.command()
def tree(
    store: StoreArgument,
    path: PathArgument = "",
    level: Annotated[int | None, typer.Option("-L", "--level", min=1, help="Go down so many levels only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the hierarchy below a group."""
    with documents.opened(store) as opened:
        present(documents.tree(opened, path, level), human.tree, as_json)


@app.command()
def ls(
    store: StoreArgument,
    path: PathArgument = "",
    long: Annotated[bool, typer.Option("-l", "--long", help="One line each, with shape, data type and sizes.")] = False,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Also what lies in the groups below.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what lies in a group."""
    with documents.opened(store) as opened:
        present(documents.ls(opened, path, long=long, recursive=recursive), human.ls, as_json)


@app.command()
def copy(
    source: Annotated[str, typer.Argument(help="Path or URL of the store to read.", show_default=False)],
    target: Annotated[str, typer.Argument(help="Path or URL of the store to write.", show_default=False)],
    source_path: Annotated[str, typer.Option(help="Copy this array or group, with all below it.")] = "",
    target_path: Annotated[str, typer.Option(help="Where it goes in the target.")] = "",
    zarr_format: Annotated[
        int | None, typer.Option(min=2, max=3, help="2 or 3; else the source's.", show_default=False)
    ] = None,
    chunks: Annotated[
        str | None,
        typer.Option(help='Chunk shape such as "100,200", or "auto".', show_default=False),
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option(help='Shard shape such as "1000,2000", or "none".', show_default=False),
    ] = None,
    compressor: Annotated[
        str | None,
        typer.Option(help='Name of a codec such as "zstd"; "auto" or "none".', show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an array or group that is in the way.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy an array or a hierarchy to another store, format, chunk shape or codec.

    --chunks and --shards hold for the arrays that have as many axes; the others keep theirs.
    """
    options = copying.Options(
        zarr_format=zarr_format,
        chunks=copying.parse_shape(chunks, "--chunks", word="auto"),
        shards=copying.parse_shape(shards, "--shards", word="none"),
        compressor=compressor,
        overwrite=overwrite,
    )
    with human.progress(quiet=as_json, in_bytes=True) as progress:
        document = copying.copy(source, source_path, target, target_path, options, progress)
    present(document, human.copied, as_json)


@app.command()
def sync(
    source: Annotated[str, typer.Argument(help="Path or URL of the store to read.", show_default=False)],
    targets: Annotated[list[str], typer.Argument(help="Paths or URLs of the stores to write.", show_default=False)],
    prefix: Annotated[str, typer.Option(help='Only the keys below it; it ends in "/".')] = "",
    delete: Annotated[bool, typer.Option("--delete", help="Delete in the targets what the source has not.")] = False,
    verify: Annotated[bool, typer.Option(help="Read what was written, and compare.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Bring stores up to date with another one, key by key: what is there already is not written again."""
    with human.progress(quiet=as_json) as progress:
        document = copying.sync(source, targets, prefix, delete, verify, progress)
    present(document, human.synced, as_json)


@app.command()
def validate(
    store: StoreArgument,
    path: PathArgument = "",
    deep: Annotated[bool, typer.Option("--deep", help="Decode every chunk.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check metadata, keys and, with --deep, every chunk. Exit code 1 when there is a problem."""
    with documents.opened(store) as opened, human.progress(quiet=as_json) as progress:
        document = validation.validate(opened, path, deep=deep, progress=progress)
    present(document, human.validated, as_json)
    if document["problems"]:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def repair(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Collect what crashed writers left behind. Values that readers can see stay as they are."""
    with documents.opened(store) as opened:
        present(documents.repair(opened), human.repaired, as_json)


@app.command()
def doctor(
    store: StoreArgument,
    write: Annotated[bool, typer.Option("--write", help="Also write a value of its own, and delete it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Try a store step by step, and say what is wrong. Exit code 1 when something is."""
    document = diagnosis.diagnose(store, write=write)
    present(document, human.diagnosed, as_json)
    if not document["healthy"]:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def cost(
    store: StoreArgument,
    path: PathArgument = "",
    reads: Annotated[float, typer.Option(min=0, help="How often all of it is read in a month, from outside.")] = 1.0,
    writes: Annotated[float, typer.Option(min=0, help="How often all of it is written in a month.")] = 1.0,
    listings: Annotated[float, typer.Option(min=0, help="How often all keys are listed in a month.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Estimate what an array or a hierarchy costs in a month in S3, GCS and Azure, by list prices."""
    with documents.opened(store) as opened:
        present(documents.cost(opened, path, reads=reads, writes=writes, listings=listings), human.cost, as_json)


@app.command()
def stores(as_json: JsonOption = False) -> None:
    """List the kinds of storage, and what each is for."""
    present(documents.stores(), human.stores, as_json)


@app.command()
def codecs(as_json: JsonOption = False) -> None:
    """List the codecs, and the C libraries they are linked with."""
    present(documents.codecs(), human.codecs, as_json)


@app.command()
def config(as_json: JsonOption = False) -> None:
    """Show the version, the number of threads, and how zarrcy was built."""
    present(documents.config(), human.config, as_json)


def present(document: Document, render: Callable[[Document], RenderableType], as_json: bool) -> None:
    """Print a document on standard output: as JSON, or as `render` draws it."""
    try:
        if as_json:
            print(json.dumps(document, indent=2, allow_nan=False))
        else:
            human.show(render(document))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the pipe has what it wanted. Nothing more may be written, not even by the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    """Run a command and return the exit code; an error becomes one line, and a hint, on standard error."""
    before, dashes, after = partition(arguments, "--")
    debug = "--debug" in before
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = [word for word in before if word != "--debug"] + dashes + after
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            code = get_command(app).main(arguments, prog_name="zarrcy", standalone_mode=False)
        except (typer.Abort, KeyboardInterrupt):
            complain("interrupted")
            return 130
        except Exception as error:
            if debug:
                traceback.print_exc()
            return explain(error)
    return code if isinstance(code, int) else 0


def partition(words: list[str], separator: str) -> tuple[list[str], list[str], list[str]]:
    """Like `str.partition`, for a list."""
    i = words.index(separator) if separator in words else len(words)
    return words[:i], words[i : i + 1], words[i + 1 :]


def explain(error: Exception) -> int:
    """Say on standard error what went wrong, and return the exit code."""
    if isinstance(error, UsageError):
        return explain_usage(error)
    if isinstance(error, (ZarrcyError, OSError, ValueError, LookupError, MemoryError)):
        complain(str(error) or type(error).__name__, *getattr(error, "__notes__", ()))
    else:
        complain(f"internal error: {type(error).__name__}: {error}", "Report what it says with --debug.")
    return EXIT_FAILED


def explain_usage(error: Any) -> int:
    command = error.ctx.command_path if error.ctx is not None else "zarrcy"
    complain(error.format_message(), f"{command} --help")
    return EXIT_USAGE


def complain(message: str, *hints: str) -> None:
    print(f"zarrcy: {human.plain(message)}", file=sys.stderr)
    for hint in hints:
        print(f"hint: {human.plain(hint)}", file=sys.stderr)


def show_warning(message: Warning | str, *where: object, **more: object) -> None:
    complain(f"warning: {message}")
