"""Lets a robot annotate on a running server, round by round, and measures what the model learns.

The robot takes the server's next image, asks for a draft, and saves the true mask as its correction; after each
round it trains and measures on cases that were never trained on. Rounds already in OUT/rounds.jsonl are not done again.
"""

import argparse
from pathlib import Path

QUICK_ROUNDS, QUICK_CASES, QUICK_TRAINING_S = 2, 4, 200.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", required=True, metavar="URL", help="such as http://127.0.0.1:8000")
    parser.add_argument("--truth", required=True, type=Path, metavar="DIR", help="true masks, named as the images")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds to do (default: %(default)s)")
    parser.add_argument("--per-round", type=int, default=4, metavar="M", help="corrections each (default: %(default)s)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="receives rounds.jsonl and dice.png")
    parser.add_argument("--seed", type=int, default=0, help="which cases --quick measures (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true",
        help=f"at most {QUICK_ROUNDS} rounds of 4 corrections, measured on {2 * QUICK_CASES} cases, "
        "within ten minutes on two cores",
    )  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the rounds and prints, as its last line, their figures as one JSON object."""
    chosen = parser().parse_args(argv)

    import tempfile

    from scripts.simulation.journal import plot, reply
    from scripts.simulation.robot import Plan, Robot
    from scripts.simulation.server import MonaiLabelServer

    plan = Plan(chosen.rounds, chosen.per_round, chosen.seed)
    if chosen.quick:
        plan = Plan(
            min(chosen.rounds, QUICK_ROUNDS), min(chosen.per_round, 4), chosen.seed, QUICK_CASES, QUICK_TRAINING_S
        )
    if not chosen.truth.is_dir():
        raise SystemExit(f"{chosen.truth} is no folder; --truth names the one with the true masks.")
    with tempfile.TemporaryDirectory() as replies:
        try:
            server = MonaiLabelServer(chosen.server, Path(replies))
        except OSError as error:
            raise SystemExit(f"No server answers at {chosen.server} ({error}). Start it, or mend --server.") from error
        rounds = Robot(server, chosen.truth, chosen.out, plan).run()
    plot(rounds, chosen.out / "dice.png")
    print(f"Wrote {chosen.out}/rounds.jsonl, corrections.jsonl and dice.png")
    print(reply(rounds))


if __name__ == "__main__":
    main()
