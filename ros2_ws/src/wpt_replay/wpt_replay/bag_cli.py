"""`wpt-bag`: scenes to bags, and what is in a bag."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from wpt_scenes.dataset_error import DatasetError

from wpt_replay.errors import BagError
from wpt_replay.unread_output import quiet_when_unread

EXAMPLES = """examples:
  wpt-bag convert --data nuscenes --version v1.0-mini --scene scene-0061 --out bags
  wpt-bag info bags/scene-0061
  ros2 bag play --clock 100 bags/scene-0061
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wpt-bag",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    convert = commands.add_parser(
        "convert", help="write one bag for each scene of a nuScenes-format data set"
    )
    convert.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="data set root (holds samples/)"
    )
    convert.add_argument("--version", required=True, help="folder of the tables, for example v1.0-mini")
    convert.add_argument("--scene", nargs="+", required=True, metavar="NAME", help="scene names, or `all`")
    convert.add_argument("--out", type=Path, required=True, metavar="DIR", help="bags become DIR/NAME")
    images = convert.add_mutually_exclusive_group()
    images.add_argument(
        "--sweeps",
        dest="sweeps",
        action="store_true",
        default=True,
        help="all camera images (default; nuScenes 12 Hz)",
    )
    images.add_argument(
        "--keyframes", dest="sweeps", action="store_false", help="images of keyframes alone (2 Hz)"
    )
    convert.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap")
    convert.add_argument("--overwrite", action="store_true", help="replace bags of the same name")
    convert.add_argument(
        "--licence", metavar="TEXT", help="licence line of the metadata, for data of another maker"
    )
    convert.set_defaults(run=run_convert)
    info = commands.add_parser("info", help="topics, rates, latched topics and camera stagger of a bag")
    info.add_argument(
        "bag", type=Path, metavar="BAG", help="folder with metadata.yaml, or one .mcap or .db3 file"
    )
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=run_info)
    return parser


def run_convert(args: argparse.Namespace) -> int:
    from wpt_scenes.tables import NuScenesTables

    from wpt_replay.scene_to_bag import convert_scene

    tables = NuScenesTables.load(args.data, args.version)
    known = tables.scene_names()
    names = list(known) if args.scene == ["all"] else args.scene
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DatasetError(
            f"{args.version} has no scene {', '.join(unknown)}, but {', '.join(known)}: name one of these"
        )
    for name in names:
        report = convert_scene(
            tables,
            name,
            args.out,
            sweeps=args.sweeps,
            storage=args.storage,
            overwrite=args.overwrite,
            licence=args.licence,
        )
        for line in report.warnings():
            print(f"wpt-bag: {line}", file=sys.stderr)
        print(
            f"{report.path}: {sum(report.counts.values())} messages, {report.images_written} of "
            f"{sum(report.images_listed.values())} images"
        )
    return 0


def run_info(args: argparse.Namespace) -> int:
    from wpt_replay.bag_info import as_dict, as_text, summarize
    from wpt_replay.bag_reader import BagReader

    with BagReader(args.bag) as bag:
        summary = summarize(bag)
    print(json.dumps(as_dict(summary), indent=2) if args.json else as_text(summary))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit code 0, 1 for a data set or bag that cannot be used, 130 when interrupted."""
    args = build_parser().parse_args(argv)
    try:
        return quiet_when_unread(lambda: args.run(args))
    except (BagError, DatasetError) as error:
        print(f"wpt-bag {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"wpt-bag {args.command}: interrupted, nothing half-written is left", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
