"""Pages of HTML: templates that escape what they are given, pictures inside the page.

What the pages share lies beside this module: ``page.css`` (light, dark, telephones,
print), ``sort.js`` and ``answer.html.jinja``. A template includes them by these names.
"""

import base64
import hashlib
import re
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

__all__ = ["data_uri", "load_template"]

_SHARED = "sklearn_molge._utils"


@cache
def load_template(name: str, package: str) -> Template:
    """Return a template of a package.

    All values are escaped, and a missing one is an error. There are two filters:
    ``sha256`` is what a content security policy knows a style or script by, ``minus``
    sets the minus signs of a number.
    """
    loader = ChoiceLoader([PackageLoader(each, "") for each in (package, _SHARED)])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(sha256=_sha256, minus=_minus)
    return environment.get_template(name)


def data_uri(kind: str, content: str) -> str:
    """Return a link that holds a text itself.

    Examples
    --------
    >>> from sklearn_molge._utils.pages import data_uri
    >>> data_uri("text/plain", "one")
    'data:text/plain;base64,b25l'
    """
    return f"data:{kind};base64,{base64.b64encode(content.encode()).decode()}"


def _sha256(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _minus(text: str) -> str:
    return re.sub(r"(?<![\w.])-(?=\d)|(?<=e)-(?=\d)", "\N{MINUS SIGN}", text)
