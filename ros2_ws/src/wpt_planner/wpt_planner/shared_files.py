"""Where the package's shared files (config, launch, dds) are: beside the sources, or in the installed share folder."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "wpt_planner"


def shared_file(*parts: str) -> Path:
    """Return the path of share/wpt_planner/<parts>; raises FileNotFoundError naming every place that was looked at.

    The source tree comes first, so that a test or an editable installation never reads an older installed copy.
    """
    beside_sources = Path(__file__).resolve().parent.parent.joinpath(*parts)
    if beside_sources.is_file():
        return beside_sources
    places = [str(beside_sources)]
    try:
        from ament_index_python.packages import get_package_share_directory

        installed = Path(get_package_share_directory(PACKAGE)).joinpath(*parts)
        if installed.is_file():
            return installed
        places.append(str(installed))
    except (ImportError, LookupError, OSError) as error:  # OSError: AMENT_PREFIX_PATH is not set
        places.append(f"the ament index ({error})")
    raise FileNotFoundError(
        f"{'/'.join(parts)} of {PACKAGE} is in none of: {', '.join(places)}; source the workspace's setup file"
    )
