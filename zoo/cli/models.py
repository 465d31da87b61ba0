"""Commands that score, sample and diagnose trained models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    Device,
    Frames,
    Modules,
    NumChains,
    NumWarmup,
    Recorded,
    Seed,
    Steps,
    Trained,
    check_device,
)

if TYPE_CHECKING:
    import torch

    from ..recipes import Recipe

app = typer.Typer()
TITLES = {"next": "next bin", "cosmooth": "held-out channels", "likelihood": "likelihood"}


@app.command()
def evaluate(
    name: Trained,
    seed: Annotated[int, typer.Option(help="Seed of the test data.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    how: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help="Change how film is predicted: --how start=previous --how steps=50 (harmoniums), "
            "--how method=posterior (rVAE; also predictor, gibbs); --how sequences=20 takes fewer "
            "films. Score your own music: --how midi=FOLDER --how transpose=C. May be given "
            "several times.",
        ),
    ] = None,
    data: Recorded = None,
    device: Device = None,
    modules: Modules = None,
) -> None:
    """Score a trained model on test data, generated with a seed of your choice.

    The sd is over the test sequences; for the sd over training seeds see the model's card. A model
    of a recording (see seqzoo fit) is scored on its test trials: the next bin given the past,
    held-out channels given the others, and the likelihood.
    """
    from .. import plain_json, store
    from ..recipes import RECIPES, parse_overrides
    from ..runs import recording_recipes

    check_device(device)
    if name in RECIPES and RECIPES[name].rule is None:
        net, recipe = RECIPES[name].model.build(), RECIPES[name]
    else:
        net = store.load(name, device or "cpu")
        recipe = _recipe_of(net, data)
        if recording_recipes.is_own(store.card_of(net)):
            if how:
                raise ValueError("a model of a recording is scored in one way: leave --how out")
            _evaluate_recording(net, recipe, seed, as_json)
            return
    scores = recipe.task.measure(net, seed, "test", parse_overrides(how or []))
    means, few = scores.figures.tolist(), len(scores.values) < 2
    spread = None if few else float(scores.values[:, 0].std())
    result = {
        "name": recipe.name,
        "metric": recipe.task.metric,
        "unit": recipe.task.unit,
        "value": means[0],
        "sd": spread,
        "also": dict(zip(recipe.task.also, means[1:])),
        "n_sequences": len(scores.values),
        "seed": seed,
        "published": recipe.published,
        "limit": recipe.limit,
        "notes": list(scores.notes),
    }
    if as_json:
        print(plain_json.dumps(result))
    else:
        print(
            f"{result['name']}: {result['metric']} {result['value']:.4g} {result['unit']} "
            f"({'' if few else f'sd {spread:.2g} over '}{result['n_sequences']} test sequences, "
            f"seed {seed})"
        )
        for figure, value in result["also"].items():
            print(f"  {figure}: {value:.4g} {result['unit']}")
        for note in scores.notes:
            print(f"  note: {note}")


@app.command()
def sample(
    name: Trained,
    out: Annotated[Path, typer.Option(help="File to write; its ending chooses the format.")],
    seed: Seed = 0,
    direction: Annotated[
        str | None,
        typer.Option(help="forwards or backwards in time; the model's own way if unset."),
    ] = None,
    data: Recorded = None,
    device: Device = None,
    modules: Modules = None,
) -> None:
    """Let a trained model generate: spike counts, film (.gif), music (.mid), answers; as .png too.

    Answers of networks to questions are plotted beside the right ones.
    """
    from .. import store

    check_device(device)
    net = store.load(name, device or "cpu")
    if not (hasattr(net, "sample") or hasattr(net, "sample_answers")):
        raise ValueError(f"{type(net).__name__} generates nothing")
    _recipe_of(net, data).task.write_samples(net, out, seed, direction=direction)
    print(f"wrote {out}")


@app.command()
def diagnose(
    name: Trained,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder to write; reports/NAME if unset. An earlier report in it is replaced.",
        ),
    ] = None,
    sequences: Annotated[int, typer.Option(min=1, help="Test sequences.")] = 20,
    num_samples: Annotated[int, typer.Option(min=25, help="Samples from the guide.")] = 500,
    training: Annotated[
        bool,
        typer.Option(
            "--training",
            help="Train a fresh network for about half a minute, and compare the gradients of its "
            "rule and of the counterpart through time along the way.",
        ),
    ] = False,
    frames: Frames = 50,
    num_chains: NumChains = 8,
    steps: Steps = 100,
    num_warmup: NumWarmup = 25,
    seed: Seed = 0,
    data: Recorded = None,
    modules: Modules = None,
) -> None:
    """Write a report on a trained model: which of its statements can be trusted, with figures.

    The report covers the diagnostics that apply to the model: k-hat of the guide, bounds,
    calibration of predictions and answers, simulation-based calibration, agreement of Gibbs
    chains, alignment of targets, and posterior samples for ArviZ (posterior.nc). With --training
    it also compares the gradients of two rules.
    """
    from .. import store
    from ..report import report
    from ..runs import recording_recipes
    from ..runs.printing import show, table
    from ..studies.chains import Chains

    if out is None:
        place = Path(name)
        if place.is_absolute() or ".." in place.parts or not place.parts:
            place = Path(*place.resolve().parts[1:])  # a way to a folder is no name
        out = Path("reports", *place.parts[-2:])
    chains = Chains(frames, num_chains, num_warmup, steps)
    held, net = None, store.load(name)
    if data is not None or recording_recipes.is_own(store.card_of(net)):
        of = _recipe_of(net, data).data
        held = None if of is None else recording_recipes.training(of)
    found = report(name, out, sequences, num_samples, seed, chains, training, data=held)
    rows = [(section.title, section.verdict) for section in found.sections]
    rows += [(title, "left out, see the report") for title, _ in found.left_out]
    show(table(("diagnostic", "verdict"), rows, words=(0, 1)))
    print(f"wrote {', '.join(path.name for path in found.files)} to {out}")


def _recipe_of(net: torch.nn.Module, data: Path | None = None) -> Recipe:
    """The recipe that a loaded model's card names, or that of its recording.

    Arguments:
        net: the model.
        data: the file of the recording, where it is no longer where the card says.
    """
    from ..recipes import find
    from ..runs import recording_recipes
    from ..store import ModelError, card_of

    card = card_of(net)
    if recording_recipes.is_own(card):
        return recording_recipes.from_card(card, data)
    if data is not None:
        raise ValueError("this is no model of a recording: leave --data out")
    if "name" not in card:
        raise ModelError("the card names no recipe: save the model with the name of one")
    return find(card["name"])


def _evaluate_recording(net: torch.nn.Module, recipe: Recipe, seed: int, as_json: bool) -> None:
    """Prints the scores of a model on the test trials of its recording."""
    from .. import plain_json
    from ..runs import recording_recipes

    assert recipe.data is not None
    test = recording_recipes.training(recipe.data).parts["test"]
    found = recording_recipes.scores_on_test(net, recipe.data, seed)
    if as_json:
        names = ("name", "trials", "seed")
        result: dict[str, Any] = dict(zip(names, (recipe.name, len(test), seed)))
        print(
            plain_json.dumps({**result, **{kind: each._asdict() for kind, each in found.items()}})
        )
        return
    print(f"{recipe.title} on {len(test)} test trials of {recipe.data.arguments['path']}:")
    for kind, each in found.items():
        value = f"{each.value:.4g} {each.unit}" if each.note == "" else each.note
        print(f"  {TITLES[kind]}: {value}")
