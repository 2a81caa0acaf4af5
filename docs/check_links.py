"""Check the links within the built pages: ``python docs/check_links.py HTML``.

Links to other sites are not followed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of a page, and what it links to."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Collect what is named and what is linked."""
        found = dict(attributes)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        self.links += [found[key] for key in ("href", "src") if found.get(key)]


def broken_links(folder):
    """Return (page, link) for each link within the folder that leads nowhere."""
    files = sorted(f for f in folder.rglob("*.html") if "_static" not in f.parts)
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in files}
    if not pages:
        raise SystemExit(f"no page in {folder}: build the documentation first.")
    broken = []
    for file, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            known = pages[target].anchors if target in pages else None
            if not target.exists() or (anchor and known is not None and anchor not in known):
                broken.append((file.relative_to(folder).as_posix(), link))
    return broken


if __name__ == "__main__":
    found = broken_links(Path(sys.argv[1]).resolve())
    for page, link in found:
        print(f"{page}: {link}")
    sys.exit(bool(found))
