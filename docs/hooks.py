"""Hooks of mkdocs: files outside docs/ that pages link to become part of the site, and links lead to them there.

Pages link to files as they lie in the repository, so that links work there too, such as ../examples/digits.toml.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "examples/**/*", "launch/*")
SUFFIXES = {"", ".cff", ".csv", ".def", ".md", ".py", ".sbatch", ".sh", ".toml", ".yaml"}  # no results of examples
LINK = re.compile(r"(\]\()([^()\s]+?)(#[^()\s]*)?(\))")


def on_files(files, config):
    """Add the files outside docs/."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and path.suffix in SUFFIXES and "runs" not in path.parts:
                name = path.relative_to(ROOT).as_posix()
                files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown, page, config, files):
    """Return the text of a page with links to files of the repository as the site has them."""
    inside = page.file.src_dir == config.docs_dir
    here = posixpath.dirname(page.file.src_uri)

    def link(found):
        start, target, anchor, end = found.groups(default="")
        path = posixpath.normpath(posixpath.join("docs" if inside else "", here, target))
        place = path.removeprefix("docs/")
        if re.match(r"\w+:", target) or files.get_file_from_path(place) is None:
            return found.group()  # which mkdocs checks
        return f"{start}{posixpath.relpath(place, here or '.')}{anchor}{end}"

    return LINK.sub(link, markdown)
