"""Table 2 of paper 000: the next frame of bouncing balls, by every model of the table."""

from __future__ import annotations

SOURCE = "Abdulsalam & Makin (2023), Table 2; the paper does not say which rendering"
SIZE, PIXELS, FRAMES = 30, 900, 100
SEQUENCES = 200
