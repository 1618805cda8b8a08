"""The arguments of `scriptorium report`."""

from __future__ import annotations

import argparse
import math

from pipelines.reporting.figures.costs import Prices


def add_report_arguments(parser: argparse.ArgumentParser, out_help: str) -> None:
    """Add the output directory, and prices for the report's cost."""
    parser.add_argument("out", metavar="OUT", help=out_help)
    ours = "default: as in the settings of the run"
    for name in ("gpu", "core"):
        parser.add_argument(
            f"--{name}-hour-price", type=_price, metavar="PRICE", help=f"price of one {name} hour; {ours}"
        )
    parser.add_argument("--currency", metavar="NAME", help=f"currency of the prices, such as EUR; {ours}")


def prices_of(given: argparse.Namespace) -> Prices:
    """The prices that were given."""
    return Prices(given.gpu_hour_price, given.core_hour_price, given.currency)


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not (math.isfinite(price) and price >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no price: give a number, 0 or more")
    return price
