"""Make a virtual environment look like a ROS installation for the packages of this repository.

pip puts executables into bin/ and drops data files from editable installs; ROS tools look for
lib/<package>/<executable>, share/<package>/... and a marker in the ament index. The links made here are
what `colcon build --symlink-install` would leave, so a changed launch or parameter file needs no set-up.
Also writes the prefix-level setup scripts (setup.bash and its kin) that a ROS installation has.
"""

from __future__ import annotations

import configparser
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

MARKERS = Path("share/ament_index/resource_index/packages")

# Runs inside the environment, where ament_package is installed.
WRITE_SETUP_SCRIPTS = """
import pathlib, sys
from ament_package.templates import (
    configure_file, get_prefix_level_template_names, get_prefix_level_template_path)
prefix = pathlib.Path(sys.argv[1])
values = {
    'CMAKE_INSTALL_PREFIX': str(prefix),
    'ament_package_PYTHON_EXECUTABLE': sys.executable,
    'SKIP_PARENT_PREFIX_PATH': '1',
}
for name in get_prefix_level_template_names():
    template = get_prefix_level_template_path(name)
    if name.endswith('.in'):
        (prefix / name[:-3]).write_text(configure_file(str(template), values))
    else:
        (prefix / name).write_text(pathlib.Path(str(template)).read_text())
"""


@dataclass(frozen=True, kw_only=True)
class SharedPackage:
    """A package of ours as the prefix shows it.

    `entries` maps a path below share/<name>/ to the source file or folder it links to.
    """

    name: str
    source: Path
    entries: dict[str, Path]


def python_package(
    source: Path, folders: tuple[str, ...] = ("launch", "config", "rviz", "dds")
) -> SharedPackage:
    """The share/ view of an ament_python package: package.xml and the files of its data folders.

    Files, as colcon links them: `ros2 launch` does not look into a folder that is itself a link.
    """
    entries = {"package.xml": source / "package.xml"}
    entries.update(_files(source, folders))
    return SharedPackage(name=source.name, source=source, entries=entries)


def models_package(source: Path) -> SharedPackage:
    """share/wpt_models: every folder with a policy.json is a bundle."""
    entries = {"package.xml": source / "package.xml"}
    entries.update({bundle.parent.name: bundle.parent for bundle in source.glob("*/policy.json")})
    return SharedPackage(name="wpt_models", source=source, entries=entries)


def bringup_package(source: Path) -> SharedPackage:
    """share/wpt_bringup: launch files lie at the top of the source folder, data in its folders."""
    entries = {"package.xml": source / "package.xml"}
    entries.update({f"launch/{file.name}": file for file in source.glob("*.launch.py")})
    entries.update(_files(source, ("config", "rviz")))
    return SharedPackage(name="wpt_bringup", source=source, entries=entries)


def _files(source: Path, folders: tuple[str, ...]) -> dict[str, Path]:
    """Every file below the folders by its path, without what Python leaves there."""
    return {
        str(file.relative_to(source)): file
        for folder in folders
        for file in sorted((source / folder).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }


def link(path: Path, target: Path) -> bool:
    """Make `path` a relative symbolic link to `target`; True where something had to change.

    Another program may create the same link at the same time: the link is made aside and renamed.
    """
    wanted = os.path.relpath(target, path.parent)
    if path.is_symlink() and os.readlink(path) == wanted:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.symlink_to(wanted)
    aside.replace(path)
    return True


def prune(folder: Path, keep: set[Path]) -> int:
    """Remove the symbolic links below `folder` that are not in `keep`; real files are left alone."""
    removed = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_symlink():
            if path not in keep:
                path.unlink()
                removed += 1
        elif path.is_dir():
            removed += prune(path, keep)
    return removed


def link_share(prefix: Path, package: SharedPackage) -> int:
    """Bring share/<package> and its index marker up to date; returns the number of changes."""
    if not (package.source / "package.xml").is_file():
        return 0
    share = prefix / "share" / package.name
    links = {share / name: source for name, source in package.entries.items()}
    changes = prune(share, set(links)) + sum(link(path, source) for path, source in links.items())
    marker = prefix / MARKERS / package.name
    if not marker.exists():
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        changes += 1
    return changes


def link_executables(prefix: Path, site_packages: Path, name: str) -> int:
    """Link lib/<name>/<exe> to bin/<exe> for the console scripts of an installed package."""
    wanted: dict[Path, Path] = {}
    for record in site_packages.glob(f"{name}-*.dist-info/entry_points.txt"):
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        parser.optionxform = str  # names keep their case
        parser.read_string(record.read_text())
        if parser.has_section("console_scripts"):
            for script in parser["console_scripts"]:
                wanted[prefix / "lib" / name / script] = prefix / "bin" / script
    folder = prefix / "lib" / name
    return prune(folder, set(wanted)) + sum(link(path, target) for path, target in wanted.items())


def write_setup_scripts(prefix: Path, python: Path) -> None:
    """Write setup.{sh,bash,zsh} and local_setup.* from ament_package's own templates."""
    subprocess.run([str(python), "-c", WRITE_SETUP_SCRIPTS, str(prefix)], check=True)
