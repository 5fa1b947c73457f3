"""Addresses for the package index, taken from where the package is built.

The README links to files beside it, which an index does not have. A workflow of GitHub knows the address of
its repository; there the links become absolute and the project gets its URLs. Elsewhere both are left out.
"""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

PAPER = "https://arxiv.org/abs/2010.04838"
RELATIVE_LINK = re.compile(r"(!?\[[^]]*\])\((?!https?:|#)([^)]+)\)")


class Addresses(MetadataHookInterface):
    """Fills in the dynamic fields ``readme`` and ``urls`` of ``pyproject.toml``."""

    def update(self, metadata: dict) -> None:
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository, tag = repository_and_tag()
        metadata["urls"] = project_urls(repository)
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute_links(readme, repository, tag) if repository else readme,
        }


def repository_and_tag() -> tuple[str, str]:
    """The address of the repository, empty outside of its workflows, and the branch or tag they run on."""
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{name}" if server and name else "", os.environ.get("GITHUB_REF_NAME", "main")


def project_urls(repository: str) -> dict[str, str]:
    """What an index shows beside the README."""
    if not repository:
        return {"Paper": PAPER}
    owner, name = repository.split("/")[-2:]
    return {
        "Documentation": f"https://{owner}.github.io/{name}/",
        "Source": repository,
        "Issues": f"{repository}/issues",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Paper": PAPER,
    }


def absolute_links(readme: str, repository: str, tag: str) -> str:
    """The README with its links to files pointing at ``tag`` of the repository, images at their bytes."""

    def absolute(link: re.Match) -> str:
        kind = "raw" if link[1].startswith("!") else "blob"
        return f"{link[1]}({repository}/{kind}/{tag}/{link[2]})"

    return RELATIVE_LINK.sub(absolute, readme)
