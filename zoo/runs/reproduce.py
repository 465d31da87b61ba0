"""Runs of a table: every row, several seeds, and the files that ship."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...inference.checks import check_number
from .. import catalogue, store
from ..cards import ModelError, is_card
from ..model_files import save_card, save_pair, weights_of
from ..recipes import Recipe, find, import_modules
from ..registry import IMPORTED
from .finished import CHECKSUM, finished
from .processes import JobFailed, SomeFailed, in_processes
from .run import run
from .tables import Card


def reproduce(
    recipes: list[Recipe],
    seeds: list[int],
    out: Path,
    jobs: int = 1,
    device: str | None = None,
    say: Callable[[str], None] = print,
    overwrite: bool = False,
) -> dict[str, list[Card]]:
    """Trains and scores every recipe with every seed. Finished runs in ``out`` are kept.

    Arguments:
        recipes: the rows.
        seeds: the seeds.
        out: folder of the runs, ``out/TABLE/ROW/seedN``.
        jobs: runs at a time, each a process with one thread.
        device: where to train.
        say: told of every run that is done.
        overwrite: replace finished runs of other settings in ``out``.

    Returns:
        The cards of every row, by its name, in the order of the seeds.

    Raises:
        ValueError: for fewer jobs than one, or for a finished run of other settings in ``out``.
        Interrupted: after ctrl-C or SIGTERM, which stop all runs; unfinished ones leave their
            checkpoints.
        SomeFailed: when some runs failed, after the others; it has the cards of those.
    """
    check_number("jobs", jobs)
    cards: dict[tuple[str, int], Card] = {}
    waiting = {}
    for recipe in recipes:
        for seed in seeds:
            folder = out / recipe.name / f"seed{seed}"
            done = _finished(folder, recipe, seed, overwrite, say)
            if done is not None:
                cards[recipe.name, seed] = done
                since = f" from {done['date']}" if "date" in done else ""
                say(f"{recipe.name} seed {seed}: {_figure(done)} (kept{since})")
            else:
                waiting[recipe.name, seed] = _run, (recipe, seed, folder, device)

    def tell(job: tuple[str, int], card: Card | JobFailed) -> None:
        name, seed = job
        if isinstance(card, JobFailed):
            say(f"{name} seed {seed}: failed: {card}")
            return
        cards[job] = card
        say(f"{name} seed {seed}: {_figure(card)} in {card['wall_time_s']:.0f} s")

    # Recipes may be of modules that the user named.
    ended = in_processes(waiting, jobs, tell, (import_modules, (list(IMPORTED),)))
    found = {r.name: [cards[r.name, s] for s in seeds if (r.name, s) in cards] for r in recipes}
    failed = sum(isinstance(card, JobFailed) for card in ended.values())
    if failed:
        raise SomeFailed(
            f"{failed} of {len(ended)} runs failed; the same command tries them again", found
        )
    return found


def _run(recipe: Recipe, seed: int, folder: Path, device: str | None) -> Card:
    import torch

    torch.set_num_threads(1)
    return run(recipe, seed, folder, device=device, progress=False, overwrite=True)


def _finished(
    folder: Path, recipe: Recipe, seed: int, overwrite: bool, say: Callable[[str], None]
) -> Card | None:
    """The card of a finished run of the very same recipe, or None where one is to be trained."""
    try:
        return finished(folder, recipe, seed)
    except ModelError as error:
        say(f"{recipe.name} seed {seed}: trains again, since {error}")
    except ValueError as error:
        if not overwrite:
            raise ValueError(
                f"{error}: give another folder (--out), or --overwrite to train again"
            ) from error
    return None


def _figure(card: Card) -> str:
    also = "".join(f", {name} {value:.3g}" for name, value in card.get("also", {}).items())
    return f"{card['metric']} {card['value']:.3g} {card['unit']}".rstrip() + also


def ship(cards: dict[str, list[Card]], out: Path, target: Path = catalogue.SHIPPED) -> list[str]:
    """Copies the summary card of every row into a folder, and the first seed's weights.

    Weights of a recipe that does not ship stay where they are. ``zoo.load(target / name)`` loads a
    model from there.

    Arguments:
        cards: the cards of every row, by its name.
        out: the folder of the runs.
        target: where to write, the package's own weights when left out.

    Returns:
        The names shipped.
    """
    names = []
    for name, seeds in cards.items():
        recipe = find(name)
        card = {
            **{key: value for key, value in store.summarise(seeds).items() if key != CHECKSUM},
            "weights_seed": seeds[0]["seed"],
            "published": recipe.published,
            "source": recipe.source,
            "limit": recipe.limit,
            "note": recipe.note,
            "command": f"seqzoo reproduce {recipe.table} --seeds {len(seeds)}",
        }
        path = target / f"{name}.json"
        if path.exists() and not is_card(path):
            raise ValueError(f"{path} is no card of a model: give another folder")
        if recipe.ships:
            weights = weights_of(out / name / f"seed{seeds[0]['seed']}" / store.WEIGHTS, seeds[0])
            save_pair(path.with_suffix(".safetensors"), path, weights, card)
        else:
            save_card(path, card)
        names.append(name)
    return names
