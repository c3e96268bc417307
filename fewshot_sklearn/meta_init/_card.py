"""A meta-init's card: what it is and where it comes from, as text and as HTML."""

from __future__ import annotations

from html import escape
from typing import Any

from ..tasks import TableFormat

#: Classes named in a card.
MOST_NAMED = 10
_STYLE = (
    "border-collapse:collapse;font-size:90%;margin:.5em 0",
    "text-align:left;padding:.1em 1em .1em 0;vertical-align:top;font-weight:normal;opacity:.7",
    "text-align:left;padding:.1em 0",
)


def card_rows(
    spec: dict[str, Any],
    provenance: dict[str, Any],
    table: TableFormat | None,
    n_parameters: int,
    nbytes: int,
    digest: str,
) -> list[tuple[str, str]]:
    """What there is to say of a meta-init.

    Parameters
    ----------
    spec, provenance : dict
        Those of the meta-init.
    table : TableFormat or None
        How rows come from a table.
    n_parameters, nbytes : int
        Its size.
    digest : str
        Its digest.

    Returns
    -------
    list of (str, str)
        Heading and text of each line; lines of which nothing is known are left out.
    """
    tasks, rows = provenance.get("tasks"), provenance.get("rows")
    outputs = spec.get("n_outputs")
    lines = [
        ("algorithm", spec.get("algorithm")),
        ("hyperparameters", _settings(spec.get("hyperparameters"))),
        ("encoder", _encoder(spec.get("encoder"))),
        ("rows", _shape(spec) if table is None else _columns(table)),
        ("rows were", _inputs(spec.get("inputs"))),
        ("rows come through", _flat(", then ".join(provenance.get("steps", [])))),
        ("outputs", "any number" if outputs and spec.get("any_width") else outputs),
        ("classes", _classes(spec)),
        ("size", f"{n_parameters:,} parameters, {nbytes / 1024:,.0f} KiB"),
        ("trained on", tasks and f"{tasks['count']:,} {tasks['kind']}"),
        ("rows seen", rows and f"{rows['rows']:,}"),
        ("episodes", provenance.get("tasks_seen") and f"{provenance['tasks_seen']:,}"),
        ("settings", _settings(provenance.get("settings"))),
        ("seed", provenance.get("seed")),
        ("losses", _settings(provenance.get("scores"))),
        ("versions", _settings(provenance.get("versions"))),
        *((provenance.get("card") or {}).items()),
        ("digest", digest[:16]),
    ]
    return [(name, str(text)) for name, text in lines if text not in (None, "", {}, [])]


def card_html(title: str, lines: list[tuple[str, str]]) -> str:
    """The lines of a card as an HTML table, folded away under its title.

    Parameters
    ----------
    title : str
        What can be seen when it is folded.
    lines : list of (str, str)
        What `card_rows` returned.

    Returns
    -------
    str
        HTML, with every text escaped.
    """
    table, head, cell = _STYLE
    body = "".join(
        f'<tr><th style="{head}">{escape(name)}</th><td style="{cell}">{escape(text)}</td></tr>'
        for name, text in lines
    )
    return (
        f"<details><summary>{escape(title)}</summary>"
        f'<table style="{table}"><tbody>{body}</tbody></table></details>'
    )


def _settings(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in (values or {}).items())


def _columns(table: TableFormat) -> str:
    """The columns of a table, each with what it holds."""
    told = []
    for i, column in enumerate(table.columns):
        name = table.names[i] if table.names else f"column {i}"
        kind = f"{len(column.values):,} values" if column.kind == "category" else column.kind
        told.append(f"{name} ({kind}{', some missing' if column.incomplete else ''})")
    return ", ".join(told)


def _classes(spec: dict[str, Any]) -> str | None:
    """Classes that past tasks had in common."""
    told = spec.get("classes")
    if told is None:
        return None
    values = told["values"]
    some = ", ".join(repr(value) for value in values[:MOST_NAMED])
    return "recur: " + some + (f" and {len(values) - MOST_NAMED} more" * (len(values) > MOST_NAMED))


def _flat(text: str) -> str:
    return " ".join(text.split())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _encoder(encoder: dict[str, Any] | None) -> str | None:
    if not encoder:
        return None
    settings = _settings(encoder.get("params"))
    return f"{encoder['name']} ({settings})" if settings else encoder["name"]


def _inputs(told: dict[str, Any] | None) -> str:
    """What the spec says of how rows come."""
    if not told:
        return ""
    words = [told.get("layout", "")]
    if "low" in told and "high" in told:
        words.append(f"{told['low']:.4g} to {told['high']:.4g}")
    words.append("integers" if told.get("integers") else "")
    words.append("not scaled" if told.get("scaled", True) is False else "")
    return ", ".join(word for word in words if word)


def _shape(spec: dict[str, Any]) -> str | None:
    shape = spec.get("input_shape")
    if shape is None:
        return None
    if spec.get("any_width"):
        return "any number of features"
    size = " x ".join(map(str, shape)) + (" features" if len(shape) == 1 else "")
    names = spec.get("feature_names")
    return f"{size}: {', '.join(names)}" if names else size
