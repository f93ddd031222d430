"""Self-contained HTML pages: one file, no request leaves it, text is never taken for markup."""

from attar.pages.assembly import make_page

__all__ = ["make_page"]
