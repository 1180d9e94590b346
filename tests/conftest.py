"""What all tests share.

A fixed hypothesis profile, the option for the long versions, and which package is under test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
import sanitized
import servers.process

ROOT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile(
    "fixed",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("fixed")

collect_ignore = list(sanitized.left_out()) if sanitized.KIND else []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long versions of the promises' tests too")


def pytest_report_header() -> str:
    import zarrcy

    place = f"zarrcy: {Path(zarrcy.__file__).parent}"
    if sanitized.KIND is None:
        return place
    return f"{place}, with {sanitized.KIND}; without the tests of bounds and {len(collect_ignore)} files"


def pytest_configure() -> None:
    import zarrcy

    if sys.flags.safe_path and Path(zarrcy.__file__).is_relative_to(ROOT / "zarrcy"):
        raise pytest.UsageError("zarrcy: expected the installed package, got the source directory")


def pytest_sessionfinish() -> None:
    servers.process.stop_all()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {name for name in ("long",) if not config.getoption("--long")}
    if sanitized.KIND:
        left_out |= {"bounds", "servers"}
    deselected = [item for item in items if any(item.get_closest_marker(name) for name in left_out)]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in set(deselected)]


@pytest.fixture(autouse=True)
def _tables_of_the_test() -> Iterator[None]:
    makers = sys.modules.get("store_makers")
    with makers.own_tables() if makers else nullcontext():
        yield


@pytest.fixture(scope="session")
def probe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C API as a Python module, built once."""
    import embedding_cases

    return embedding_cases.build_extension(embedding_cases.PROBE, tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="session")
def probe(probe_path: Path) -> ModuleType:
    import embedding_cases

    return embedding_cases.load(probe_path)
