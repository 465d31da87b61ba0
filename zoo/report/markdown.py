"""The text of a report, and its folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import store
from .context import Context, Section

REPORT = "report.md"
FIGURES = frozenset(  # all other files of reports: those of an earlier one are removed
    {
        *("khat.png", "bound.png", "pit.png", "sbc.png", "answers.png"),
        *("chains.png", "targets.png", "rules.png", "posterior.nc"),
    }
)


def check_folder(out: str | Path) -> Path:
    """The folder to write to.

    Raises:
        ValueError: when it is a file, or would lie in one.
    """
    out = Path(out)
    there = _nearest(out)
    if not there.is_dir():
        raise ValueError(f"{there} is a file: --out names the folder to write a report to")
    return out


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as ``out``, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=".report-", dir=_nearest(out)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(folder: Path, out: Path) -> None:
    """Removes the files of an earlier report from ``out``, and moves the new ones there."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (REPORT, *sorted(FIGURES)):
        (out / name).unlink(missing_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == REPORT):
        shutil.move(path, out / path.name)


def _nearest(out: Path) -> Path:
    """The folder itself, or the nearest parent that exists."""
    out = out.absolute()
    return next(path for path in (out, *out.parents) if path.exists())


def written(context: Context, sections: list[Section], left_out: list[tuple[str, str]]) -> str:
    """The text of a report, in Markdown."""
    card, batch = store.card_of(context.net), context.batch
    title = card.get("title") or context.name
    lines = [f"# Diagnostics of {card.get('name') or title}", ""]
    lines += [
        f"{title} ({context.name}), on {len(batch)} held-out"
        f" sequence{'s' * (len(batch) > 1)} of"
        f" {type(context.data).__name__}, {batch.frames} frames, seed {context.seed}.",
        "",
    ]
    judged = [one for one in sections if one.verdict]
    if judged:
        lines += ["| diagnostic | verdict |", "|---|---|"]
        lines += [f"| {one.title} | {one.verdict} |" for one in judged] + [""]
    for one in sections:
        lines += [f"## {one.title}", "", one.question, ""]
        lines += [f"- {sentence}" for sentence in one.found] + [""]
        if one.figure is not None and one.figure.endswith(".png"):
            lines += [f"![{one.title}]({one.figure})", ""]
    if left_out:
        lines += ["## Left out", ""]
        lines += [f"- {title}: {why}." for title, why in left_out] + [""]
    return "\n".join(lines)
