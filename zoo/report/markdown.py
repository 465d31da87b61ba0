"""The text of a report, and its folder."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import folders, store
from .context import Context, Section

REPORT = "report.md"
FIGURES = frozenset(  # all other files of reports
    {
        *("khat.png", "bound.png", "pit.png", "sbc.png", "answers.png"),
        *("chains.png", "targets.png", "rules.png", "posterior.nc"),
    }
)
# The last line of a report, which Markdown does not show: the files that belong to it.
_FILES = re.compile(r"<!-- seqzoo diagnose: (.*) -->\s*\Z")


def check_folder(out: str | Path) -> Path:
    """The folder to write to.

    Raises:
        ValueError: when it is a file, would lie in one, or holds files of someone else.
    """
    out = Path(out)
    foreign = "|".join(map(re.escape, sorted(FIGURES - _files(out))))
    folders.check(out, re.compile(foreign), lambda folder: REPORT in _files(folder))
    return out


def _files(folder: Path) -> set[str]:
    """The files of the report in a folder, as it names them itself."""
    try:
        found = _FILES.search((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return set()
    return {REPORT, *FIGURES}.intersection(found[1].split() if found else ())


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as ``out``, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=".report-", dir=folders.nearest(out)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(folder: Path, out: Path) -> None:
    """Removes the files of an earlier report from ``out``, and moves the new ones there.

    ``out`` is one that ``check_folder`` let pass.
    """
    out.mkdir(parents=True, exist_ok=True)
    earlier = {REPORT, *FIGURES} if (out / folders.MARK).is_file() else _files(out)
    (out / folders.MARK).touch()
    for name in sorted(earlier):
        (out / name).unlink(missing_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == REPORT):
        shutil.move(path, out / path.name)
    (out / folders.MARK).unlink()


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
    own = [one.figure for one in sections if one.figure is not None]
    return "\n".join([*lines, f"<!-- seqzoo diagnose: {' '.join([REPORT, *own])} -->", ""])
