"""Write tests/data/zarrs: the trees of make_zarr_python.py with every chunk encoded by zarrs.

Run with the versions in tests/data/zarrs/versions.json: python make_zarrs.py
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import make_zarr_python
import zarr
import zarrs
from zarrs.pipeline import UnsupportedDataTypeError, UnsupportedMetadataError


class Tree(make_zarr_python.Tree):
    """Leaves out, by name, the arrays that zarrs cannot write.

    In its strict mode nothing falls back to zarr-python's own codecs.
    """

    def __init__(self, root: Path, zarr_format: int) -> None:
        super().__init__(root, zarr_format)
        self.left_out: list[str] = []

    def array(self, path: str, *args: Any, **options: Any) -> None:
        try:
            super().array(path, *args, **options)
        except (UnsupportedMetadataError, UnsupportedDataTypeError):
            shutil.rmtree(self.root / path, ignore_errors=True)
            self.about.pop(path, None)
            self.left_out.append(path)


def main() -> None:
    warnings.simplefilter("ignore")
    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True})
    here = Path(__file__).resolve().parent / "zarrs"
    left_out = {}
    with tempfile.TemporaryDirectory() as temporary:
        for make in (make_zarr_python.v2, make_zarr_python.v3):
            tree = make(Path(temporary) / make.__name__, Tree)
            left_out[make.__name__] = " ".join(tree.left_out)
            tree.finish(here / f"{make.__name__}.zip", zarrs=zarrs.__version__, left_out=left_out)


if __name__ == "__main__":
    main()
