"""HTML and SVG, built from Python calls; all text in it is escaped, as names of classes and hosts may hold anything."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

from dbp.text import printable

VOID = {"meta", "br", "img", "hr", "link", "wbr"}  # elements without content


class Markup(str):
    """A piece of HTML, whose texts are escaped."""

    __slots__ = ()


Content: TypeAlias = "str | int | float | Iterable[Content] | None"


def text(content: Content) -> Markup:
    """Return content as HTML: Markup as it is, all else escaped, without control characters."""
    if isinstance(content, Markup):
        return content
    if content is None:
        return Markup()
    if isinstance(content, (str, int, float)):
        return Markup(html.escape(printable(str(content))))
    return Markup("".join(map(text, content)))


def tag(kind: str, *children: Content, **attributes: str | int | float | bool | None) -> Markup:
    """Return an element.

    Args:
        kind: its name.
        children: what it holds.
        attributes: by name, of which a last underscore is left out and others become hyphens, as in class_ and
            stroke_width; None and False leave an attribute out, True gives it no value.
    """
    written = ""
    for attribute, value in attributes.items():
        if value is None or value is False:
            continue
        written += f" {attribute.rstrip('_').replace('_', '-')}"
        if value is not True:
            written += f'="{html.escape(printable(str(value)))}"'
    if kind in VOID:
        return Markup(f"<{kind}{written}>")
    return Markup(f"<{kind}{written}>{text(children)}</{kind}>")


def section(title: str, *children: Content, lead: Content = None, id_: str | None = None) -> Markup:
    """Return a part of the page with a heading and a line under it; empty if all children are."""
    content = text(children)
    if not content:
        return Markup()
    return tag("section", tag("h2", title), lead and tag("p", lead, class_="lead"), content, id=id_)


def figure(caption: Content, *children: Content, note: Content = None, class_: str = "card") -> Markup:
    """Return a picture or table with a caption above it and a note below."""
    below = tag("p", note, class_="note") if note else None
    return tag("figure", tag("figcaption", caption), children, below, class_=class_)


def grid(*rows: Content, class_: str = "grid") -> Markup:
    """Return pieces beside one another as far as the page is wide; empty if all of them are."""
    content = text(rows)
    return tag("div", content, class_=class_) if content else content


def table(head: Iterable[Content], rows: Iterable[Iterable[Content]], class_: str | None = None) -> Markup:
    """Return a table that scrolls sideways where the page is narrow; the first cell of a row is its heading."""
    body = [
        tag("tr", [tag("th" if i == 0 else "td", cell, scope="row" if i == 0 else None) for i, cell in enumerate(row)])
        for row in rows
    ]
    heads = tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head]))
    return tag("div", tag("table", heads, tag("tbody", body), class_=class_), class_="scroll", tabindex=0)
