"""Pictures, plotted without a display.

Of recordings and of models of them
    ``plot_raster``: the spikes of a trial, and the rates that a model expects
    ``plot_missing``: how much of each channel is missing in each trial
    ``plot_latents``: latent paths by condition, in two or three dimensions
    ``plot_over_time``: latent states or traces of a trial, and the true ones
    ``plot_learning``: learning curves of several fits
    ``plot_neurons``: how well each neuron is predicted

These take matplotlib axes (``ax=None`` makes some) and return them. Save a picture with
``ax.figure.savefig("picture.png")``. The others write the files of the commands and studies.
"""

from .answers import plot_classes, plot_curve
from .files import FILM, FORMATS, MUSIC, PICTURES, check_file, save_figure
from .film import plot_film
from .heat import plot_heat
from .learning import plot_learning
from .music import plot_rolls
from .neurons import plot_neurons
from .population import plot_population, plot_trajectory
from .raster import plot_missing, plot_raster
from .states import plot_latents, plot_over_time

__all__ = [
    "FILM",
    "FORMATS",
    "MUSIC",
    "PICTURES",
    "check_file",
    "plot_classes",
    "plot_curve",
    "plot_film",
    "plot_heat",
    "plot_latents",
    "plot_learning",
    "plot_missing",
    "plot_neurons",
    "plot_over_time",
    "plot_population",
    "plot_raster",
    "plot_rolls",
    "plot_trajectory",
    "save_figure",
]
