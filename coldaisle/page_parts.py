"""The pieces of a page that carries all it shows: sections, tables whose cells hold their whole figures, pictures."""

import html as markup
from collections.abc import Sequence


def card(title: str, body: str) -> str:
    """Return a section; `body` is markup."""
    return f'<section class="card" aria-label="{text(title)}"><h2>{text(title)}</h2>{body}</section>'


def figures(pictures: Sequence[tuple[str, str, str]], beside: str = "") -> str:
    """Return pictures (title, what it says, svg) side by side as the page is wide, and what stands `beside` them."""
    drawn = "".join(
        f'<figure><figcaption><h3>{text(title)}</h3><p class="note">{text(said)}</p></figcaption>{svg}</figure>'
        for title, said, svg in pictures
    )
    aside = f'<div class="beside">{beside}</div>' if beside else ""
    return f'<div class="pictures">{drawn}{aside}</div>'


def table(columns: Sequence[str], rows: Sequence[str], kind: str = "", left: Sequence[str] = ()) -> str:
    """Return a table of rows that are markup; the heads named in `left` stand left, as words do."""
    heads = "".join(f'<th scope="col" class="{_side(column in left)}">{text(column)}</th>' for column in columns)
    whole = f'<table class="{kind}"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return whole if kind else f'<div class="scroll">{whole}</div>'


def number(key: str, value: float | None, form: str, label: str = "") -> str:
    """Return a cell with a figure, `-` without; `label` names it where a narrow page stacks the cells."""
    said = f' data-label="{text(label)}"' if label else ""
    exact = "" if value is None else repr(value)
    return f'<td data-key="{text(key)}" data-value="{exact}"{said}>{plain(value, form)}</td>'


def words(*cells: str, kind: str = "name") -> str:
    """Return cells with words, which are no markup."""
    return "".join(f'<td class="{kind}">{text(cell)}</td>' for cell in cells)


def plain(value: float | None, form: str) -> str:
    """Return a figure as people read it."""
    return "-" if value is None else form.format(value)


def text(words: str) -> str:
    """Return words as markup."""
    return markup.escape(words)


def _side(left: bool) -> str:
    return "name" if left else ""
