"""What the site has beside docs/: pages of the repository's other folders, and links between all of them.

A hook of mkdocs (mkdocs.yml). Links are written for readers of the repository; here they are turned into the site's.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
#: A page of the repository outside docs/ -> where the site has it.
ELSEWHERE = {
    "README.md": "about.md",
    "README.zh-CN.md": "zh/about.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "models/training/README.md": "bundled-models.md",
}
_HOME = {uri: path for path, uri in ELSEWHERE.items()}
_LINK = re.compile(r"(!?)\[([^\]\n]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from elsewhere."""
    for path, uri in ELSEWHERE.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links where the site has their targets; what it does not have becomes plain text."""
    uri = page.file.src_uri
    folder = posixpath.dirname(_HOME.get(uri, f"docs/{uri}"))

    def turned(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or ":" in path:
            return match[0]
        there = posixpath.normpath(posixpath.join(folder, path))
        there = ELSEWHERE.get(there, there.removeprefix("docs/") if there.startswith("docs/") else "")
        if files.get_file_from_path(there) is None:
            return text
        relative = posixpath.relpath(there, posixpath.dirname(uri) or ".")
        return f"{image}[{text}]({relative}{hash_}{anchor})"

    return _LINK.sub(turned, markdown)
