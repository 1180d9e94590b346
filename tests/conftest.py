"""What all tests share.

A fixed hypothesis profile, the option for the long versions, and which package is under test.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long versions of the promises' tests too")


def pytest_report_header() -> str:
    import zarrcy

    return f"zarrcy: {Path(zarrcy.__file__).parent}"


def pytest_configure() -> None:
    import zarrcy

    if sys.flags.safe_path and Path(zarrcy.__file__).is_relative_to(ROOT / "zarrcy"):
        raise pytest.UsageError("zarrcy: expected the installed package, got the source directory")


def pytest_sessionfinish() -> None:
    servers.process.stop_all()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in set(long)]


@pytest.fixture(scope="session")
def probe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C API as a Python module, built once."""
    import embedding_cases

    return embedding_cases.build_extension(embedding_cases.PROBE, tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="session")
def probe(probe_path: Path) -> ModuleType:
    import embedding_cases

    return embedding_cases.load(probe_path)
