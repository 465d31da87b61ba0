"""Settings for data of one's own, as data: model, rule and budget.

``facts``
    sizes and kind of a recording, on which settings depend
``defaults``
    settings of each model by name
``plan``
    what they are: a ``Plan``, which can be changed
``validation``
    the loss that chooses the epoch
"""
