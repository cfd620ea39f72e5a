"""Say what an audit found: sentences, tables, figures and one page.

Reads a result object and nothing else; see `biasaudio.report.text` for the
words, `tables` for the numbers, `figures` for the pictures and `html` for the
page.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "FIGURES",
    "Finding",
    "notebook_html",
    "render_html",
    "save_figures",
    "summary",
    "verdict",
    "write_html",
]

_HOME = {
    "FIGURES": "figures",
    "save_figures": "figures",
    "Finding": "text",
    "summary": "text",
    "verdict": "text",
    "notebook_html": "html",
    "render_html": "html",
    "write_html": "html",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used; matplotlib is heavy."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
