"""The scripts and the styles of the playground, copied beside its page."""

from pathlib import Path

from sphinx.util.fileutil import copy_asset_file

FILES = ("rbst.js", "playground.js", "playground.css")


def copy_files(app, exception) -> None:
    """Copy the files of ``docs/playground`` that its page loads, once the site is built."""
    if exception is None and app.builder.format == "html":
        for name in FILES:
            copy_asset_file(Path(app.srcdir, "playground", name), Path(app.outdir, "playground"))


def setup(app) -> dict[str, bool]:
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
