"""A network whose expected values are given."""

from seqzoo import inference


class Told(inference.Network):
    """Expects given rates, and keeps the batch that it was given."""

    takes_missing = True
    rates_given = ("all",)

    def __init__(self, rates):
        super().__init__()
        self.rates = rates

    def expect(self, batch, given, num_samples):
        self.batch = batch
        return self.rates[None]
