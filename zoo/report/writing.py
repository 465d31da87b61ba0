"""The text of a report."""

from __future__ import annotations

from .subject import Section, Subject


def written(subject: Subject, sections: list[Section], left_out: list[tuple[str, str]]) -> str:
    card, batch = subject.net.card, subject.batch
    lines = [f"# Diagnostics of {card['name']}", ""]
    lines += [
        f"{card.get('title', subject.name)} ({subject.name}), on {len(batch)} held-out sequences of"
        f" {subject.data.name}, {batch.frames} frames, seed {subject.seed}.",
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
