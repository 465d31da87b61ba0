"""Random generators of their own."""

import torch
from seqzoo.data import generator

KEYS = [
    (),
    (0,),
    (1,),
    (0, 1),
    (1, 0),
    (0, 0),
    ("a",),
    (97,),
    ("ab",),
    ("a", "b"),
    ("b", "a"),
    (2**32,),
    (2**32 + 1,),
    (1, 1),
    (0, "PPC train", 0),
    (0, "PPC train", 0, 0),
]


def test_a_key_gives_one_stream():
    first, second = (torch.rand(4, generator=generator(3, "x", 1)) for _ in range(2))
    assert torch.equal(first, second)


def test_unequal_keys_give_unequal_streams():
    seeds = {}
    for key in KEYS:
        seeds.setdefault(generator(*key).initial_seed(), []).append(key)
    assert [keys for keys in seeds.values() if len(keys) > 1] == []
