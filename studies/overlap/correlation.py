"""How well does each overlap of a text with the task predict what pre-training on it gains?

    python studies/overlap/correlation.py studies/overlap/ag_news

Reads ``overlap.csv`` of each set of articles below the folder: the share of the task's types (plain overlap) and of its
tokens (frequency-weighted overlap) that the set holds, and the gain of single members. Prints the correlation of each
share with the gain over the sets, and their difference, with 95% intervals, which take the sets for a sample.

Source: Fisher 1915 for the interval of a correlation; Zou 2007, "Toward using confidence intervals to compare
correlations", for the difference of two that share a variable.
"""

import sys
from math import atanh, sqrt, tanh
from pathlib import Path

import pandas as pd

NORMAL_QUANTILE = 1.96
SHARES = {"plain": "type_share", "weighted": "token_share"}


def interval(r: float, sets: int) -> tuple[float, float]:
    """Return the 95% interval of a correlation ``r`` over this many sets."""
    half = NORMAL_QUANTILE / sqrt(sets - 3)
    return tanh(atanh(r) - half), tanh(atanh(r) + half)


def difference(first: float, second: float, between: float, sets: int) -> tuple[float, float, float]:
    """Return ``first - second`` and its 95% interval; ``between`` is the correlation of the two predictors."""
    (low, high), (low_of_second, high_of_second) = interval(first, sets), interval(second, sets)
    shared = (between - first * second / 2) * (1 - first**2 - second**2 - between**2) + between**3
    shared /= (1 - first**2) * (1 - second**2)
    below, above = (first - low, high_of_second - second), (high - first, second - low_of_second)
    reach = [sqrt(a**2 + b**2 - 2 * shared * a * b) for a, b in (below, above)]
    return first - second, first - second - reach[0], first - second + reach[1]


def main(folder: Path) -> None:
    """Print a line for each overlap, and one for their difference."""
    sets = pd.concat([pd.read_csv(file) for file in sorted(folder.glob("*/overlap.csv"))])
    r = {kind: sets["gain"].corr(sets[share]) for kind, share in SHARES.items()}
    for kind, share in SHARES.items():
        low, high = interval(r[kind], len(sets))
        print(
            f"{kind} overlap, {100 * sets[share].min():.1f} to {100 * sets[share].max():.1f}%: "
            f"correlation with the gain {r[kind]:.2f} ({low:.2f} to {high:.2f}), {len(sets)} sets"
        )
    between = sets["type_share"].corr(sets["token_share"])
    print(
        "weighted minus plain: {:.2f} ({:.2f} to {:.2f})".format(
            *difference(r["weighted"], r["plain"], between, len(sets))
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
