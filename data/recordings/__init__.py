"""Recordings of spikes and traces: trials, their files, and the inputs beside them.

``recording``
    the class ``Recording``: trials of values in bins
``parts``
    its splits, and selections of trials and channels
``binning``, ``spikes``, ``inputs``
    spike times, traces and inputs, put in bins
``labelled``, ``neuro``, ``npz``
    to and from xarray and pandas; from NWB and pynapple; the format of ``Recording.save``
``files``, ``trials``
    a recording from a file of any kind; the data set ``RecordedTrials`` of such a file
"""
