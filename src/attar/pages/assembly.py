"""Putting template, styles, scripts and data together into one file."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

_SHARED = "attar.pages"


def make_page(
    package: str,
    template: str,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: Any = None,  # noqa: ANN401  (what JSON can hold)
    **context: Any,  # noqa: ANN401
) -> str:
    """Make a page that needs nothing but itself.

    Args:
        package: The package whose folder `assets` has the template, the styles and the scripts.
        template: Name of the template; it extends `base.html` of this package.
        styles: Names of style sheets, after the shared `base.css`.
        scripts: Names of scripts. Joined in this order they are one module, so that a file may use
            what the ones before it define, and nothing of it is global.
        data: For the scripts: they find it as JSON in the element `data`.
        **context: For the template, which escapes it.

    Returns:
        The HTML. Its content security policy forbids every request, and every script but its own.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "assets"), PackageLoader(_SHARED, "assets")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _read(_SHARED, "base.css") + "".join(_read(package, name) for name in styles)
    script = "\n" + "\n".join(_read(package, name) for name in scripts)
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script) if scripts else None,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=None if data is None else htmlsafe_json_dumps(data, ensure_ascii=False),
        **context,
    )


def _read(package: str, name: str) -> str:
    return (files(package) / "assets" / name).read_text(encoding="utf-8")
