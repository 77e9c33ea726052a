"""`make env`: everything the suite needs, in one virtual environment, on a machine without ROS.

Creates the environment, installs the pinned wheels (ROS 2 Jazzy, torch, OpenCV, test tools), repairs the
wheels' baked paths, builds tf2_msgs and wpt_msgs with the real rosidl generators, installs the Python
packages editable, and lays the environment out as a ROS prefix. Each step leaves a stamp with a hash of
what it depends on: a second call does nothing, an interrupted one resumes, a changed interface file
rebuilds only the interfaces. Needs only the standard library of Python 3.11 or 3.12.

WPT_VENV names another folder than .venv; --remove takes the environment away again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import ament_prefix
import fix_ros_prefix

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "requirements"
SOURCES = REPOSITORY / "ros2_ws" / "src"
# The packages with Python modules; those that are in the checkout are installed.
PYTHON_PACKAGES = (
    SOURCES / "wpt_policy",
    SOURCES / "wpt_scenes",
    SOURCES / "wpt_planner",
    SOURCES / "wpt_replay",
    REPOSITORY / "training",
    REPOSITORY / "simulation",
)
INTERFACES = (REPOSITORY / "tools" / "tf2_msgs", SOURCES / "wpt_msgs")
# requirements/<name>.txt, with versions from constraints.txt; torch.txt is treated apart (torch_arguments).
WHEEL_LISTS = ("ros", "runtime", "simulation", "build", "test")
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


class SetupError(Exception):
    """One sentence: what is wrong, what was expected, what to do."""


class Environment:
    """Paths inside the virtual environment, the stamps and the log."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = root / "bin" / "python3"
        self.state = root / ".setup"
        self.log = self.state / "setup.log"
        # The open lock; children inherit it, so that a killed set-up's pip cannot meet a second one.
        self.lock: IO[str] | None = None
        self.site_packages = root / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"

    def is_done(self, step: str, key: str) -> bool:
        stamp = self.state / f"{step}.stamp"
        return stamp.is_file() and stamp.read_text() == key

    def mark_done(self, step: str, key: str) -> None:
        aside = self.state / f"{step}.stamp.{os.getpid()}"
        aside.write_text(key)
        aside.replace(self.state / f"{step}.stamp")

    def forget(self, step: str) -> None:
        (self.state / f"{step}.stamp").unlink(missing_ok=True)


def digest(paths: Iterable[Path], *extra: str) -> str:
    """SHA-256 of names and contents; a missing file counts as such."""
    state = hashlib.sha256()
    for path in paths:
        state.update(str(path.relative_to(REPOSITORY)).encode() + b"\0")
        state.update(path.read_bytes() if path.is_file() else b"<absent>")
        state.update(b"\0")
    for text in extra:
        state.update(text.encode() + b"\0")
    return state.hexdigest()


def check_python() -> None:
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        found = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupError(
            f"This Python is {found} ({sys.executable}), but the pinned wheels are made for 3.11 or 3.12: "
            "install one of them and run `make env PYTHON=python3.12`."
        )
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        raise SetupError(
            f"This machine is {sys.platform} {os.uname().machine}, but the ROS wheels exist for Linux x86_64 alone: "
            "use a stock ROS 2 Jazzy installation and colcon (README, ROS 2 section)."
        )


def check_compilers() -> None:
    """Only asked for when interfaces have to be built."""
    for program, package in (("gcc", "gcc"), ("g++", "g++"), ("cmake", "cmake")):
        if shutil.which(program) is None:
            raise SetupError(
                f"{program} was not found on PATH, but building wpt_msgs needs gcc, g++ and cmake >= 3.20: "
                f"install it, for example `sudo apt-get install {package}`."
            )
    text = subprocess.run(["cmake", "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"version (\d+)\.(\d+)", text)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < (3, 20):
        raise SetupError(
            f"cmake is {version[0]}.{version[1]}, but building wpt_msgs needs at least 3.20: install a newer one, for "
            "example `pip install 'cmake<4'` in an environment that is on PATH."
        )
    header = python_include() / "Python.h"
    if not header.is_file():
        raise SetupError(
            f"{header} is missing, but building wpt_msgs needs the headers of this Python: install them, for "
            f"example `sudo apt-get install python3.{sys.version_info[1]}-dev`."
        )


def python_include() -> Path:
    """The folder of Python.h; in a virtual environment it is the base interpreter's."""
    return Path(sysconfig.get_paths()["include"])


def build_environment(env: Environment) -> dict[str, str]:
    """The variables for cmake and pip: both prefix paths are needed, or rosidl_typesupport_c is not found."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if name
        not in (
            "PYTHONPATH",
            "PYTHONHOME",
            "VIRTUAL_ENV",
            "LD_LIBRARY_PATH",
            "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
        )
    }
    variables.setdefault("HOME", str(env.state))
    variables["AMENT_PREFIX_PATH"] = variables["CMAKE_PREFIX_PATH"] = str(env.root)
    variables["PATH"] = f"{env.root / 'bin'}{os.pathsep}{variables.get('PATH', os.defpath)}"
    return variables


def run_logged(
    env: Environment, command: list[str], progress: Callable[[str], str | None] | None = None
) -> None:
    """Run a command with all output in the log; `progress` turns an output line into a short note."""
    live = sys.stdout.isatty()
    with env.log.open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=build_environment(env),
            pass_fds=(env.lock.fileno(),) if env.lock else (),
        )
        assert process.stdout is not None
        tail: list[str] = []
        with process:
            for line in process.stdout:
                log.write(line)
                tail = (tail + [line.rstrip()])[-15:]
                note = progress(line) if progress else None
                if note and live:
                    print(f"\r\033[K     {note[:100]}", end="", flush=True)
        if live:
            print("\r\033[K", end="", flush=True)
    if process.returncode != 0:
        shown = "\n".join(f"    {line}" for line in tail)
        shown_command = shlex.join([Path(command[0]).name, *command[1:]])
        raise SetupError(
            f"`{shown_command[:60]} ...` ended with {process.returncode}, its last lines "
            f"follow and all of it is in {env.log}: correct the cause and run `make env` again, it resumes here.\n{shown}"
        )


def pip_progress(line: str) -> str | None:
    line = line.strip()
    return line if line.startswith(("Collecting", "Downloading", "Installing", "Building")) else None


def ninja_progress(line: str) -> str | None:
    line = line.strip()
    return line if line.startswith("[") else None


def step(title: str, work: Callable[[], None]) -> None:
    print(f"== {title}", flush=True)
    begin = time.monotonic()
    work()
    print(f"     done in {time.monotonic() - begin:.0f} s", flush=True)


def installed_torch(env: Environment) -> str | None:
    """The version of a torch that the user put into the environment, or None."""
    for record in env.site_packages.glob("torch-*.dist-info"):
        return record.name.removeprefix("torch-").removesuffix(".dist-info")
    return None


def release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def torch_arguments(env: Environment) -> list[str]:
    """Keep an installed torch of at least the pinned version, ask for the pinned one otherwise."""
    pinned = re.search(r"^torch==(\S+)", (REQUIREMENTS / "torch.txt").read_text(), re.MULTILINE)
    if pinned is None:
        raise SetupError(
            "requirements/torch.txt has no line torch==VERSION, but setup needs it: restore that line."
        )
    found = installed_torch(env)
    if found is not None and release(found) >= release(pinned[1]):
        return [f"torch=={found}"]
    return ["-r", str(REQUIREMENTS / "torch.txt")]


def make_venv(env: Environment) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    # numpy's include folder and pip's scripts hold this path: a moved environment is a broken one.
    key = digest([], version, str(env.root))
    if env.is_done("venv", key) and env.python.exists():
        return
    config = env.root / "pyvenv.cfg"
    if config.is_file() and not env.site_packages.is_dir():
        raise SetupError(
            f"{env.root} was made by another Python than this {version}, and its packages cannot be used by it: "
            "remove that folder (`make clean-env`) and run `make env` again."
        )
    if env.root.exists() and not config.is_file() and any(p != env.state for p in env.root.iterdir()):
        raise SetupError(
            f"{env.root} exists and is no virtual environment: remove it, or name another folder with WPT_VENV."
        )

    def create() -> None:
        if not (env.python.exists() and (env.site_packages / "pip").is_dir()):
            run_logged(env, [sys.executable, "-m", "venv", str(env.root)])

    step(f"virtual environment {env.root} (Python {version})", create)
    env.mark_done("venv", key)


def install_wheels(env: Environment) -> str:
    files = [REQUIREMENTS / f"{name}.txt" for name in (*WHEEL_LISTS, "torch", "constraints")]
    key = digest(files, sys.version, str(env.root), installed_torch(env) or "")
    if env.is_done("wheels", key):
        return key
    check_compilers()  # now rather than after a minute of downloads

    def install() -> None:
        lists = [("-r", str(REQUIREMENTS / f"{name}.txt")) for name in WHEEL_LISTS]
        run_logged(
            env,
            [
                str(env.python),
                *PIP,
                "install",
                "--progress-bar",
                "off",
                "-c",
                str(REQUIREMENTS / "constraints.txt"),
            ]
            + [argument for pair in lists for argument in pair]
            + torch_arguments(env),
            pip_progress,
        )
        run_logged(env, [str(env.python), fix_ros_prefix.__file__])
        ament_prefix.write_setup_scripts(env.root, env.python)

    step(
        "wheels: ROS 2 Jazzy, torch, OpenCV, colcon, test tools (1.6 GB with a CPU torch, 5 GB with a CUDA one)",
        install,
    )
    key = digest(files, sys.version, str(env.root), installed_torch(env) or "")
    env.mark_done("wheels", key)
    return key


def build_interfaces(env: Environment, source: Path, wheels_key: str) -> None:
    name = source.name
    files = [source / "CMakeLists.txt", source / "package.xml"]
    files += sorted(p for kind in ("msg", "srv", "action") for p in source.glob(f"{kind}/*"))
    key = digest(files, wheels_key)
    if env.is_done(name, key):
        return
    if not any(path.suffix in (".msg", ".srv", ".action") for path in files):
        print(f"== {name}: no interface files yet, not built")
        return
    check_compilers()
    build = env.state / "build" / name
    manifest = build / "install_manifest.txt"
    installed = env.state / f"{name}.installed"
    names = [str(path.relative_to(source)) for path in files]

    def compile_and_install() -> None:
        env.forget(name)
        if not env.is_done(f"{name}.files", digest([], *names)):
            # A build folder would install what it once generated from a file that is gone.
            shutil.rmtree(build, ignore_errors=True)
        run_logged(
            env,
            ["cmake", "-G", "Ninja", "-S", str(source), "-B", str(build), "-DBUILD_TESTING=OFF"]
            + [f"-DCMAKE_INSTALL_PREFIX={env.root}", f"-DCMAKE_MAKE_PROGRAM={env.root / 'bin' / 'ninja'}"]
            + [f"-DPython3_EXECUTABLE={env.python}"],
        )
        run_logged(env, ["cmake", "--build", str(build), "--target", "install"], ninja_progress)
        before = set(installed.read_text().splitlines()) if installed.is_file() else set()
        now = manifest.read_text()
        for stale in before - set(now.splitlines()):
            Path(stale).unlink(missing_ok=True)
        installed.write_text(now)
        env.mark_done(f"{name}.files", digest([], *names))

    step(f"{name}: building the interfaces", compile_and_install)
    env.mark_done(name, key)


def present_packages() -> list[Path]:
    """The Python packages of the repository that exist in this checkout."""
    return [
        path
        for path in PYTHON_PACKAGES
        if (path / "setup.py").is_file() and any(path.glob("wpt_*/__init__.py"))
    ]


def install_packages(env: Environment, wheels_key: str) -> None:
    packages = present_packages()
    if not packages:
        return
    files = [path / name for path in packages for name in ("setup.py", "setup.cfg", "pyproject.toml")]
    key = digest(files, wheels_key)
    if not env.is_done("packages", key):

        def install() -> None:
            arguments = ["install", "--no-deps", "--no-build-isolation", "--use-pep517"]
            for package in packages:
                arguments += ["-e", str(package)]
            run_logged(env, [str(env.python), *PIP, *arguments], pip_progress)

        step(f"packages: {', '.join(path.name for path in packages)} (editable)", install)
        env.mark_done("packages", key)


def lay_out_prefix(env: Environment) -> None:
    """Links for ros2 run, ros2 launch and get_package_share_directory; cheap, so looked at on every call."""
    packages = present_packages()
    changes = sum(ament_prefix.link_executables(env.root, env.site_packages, path.name) for path in packages)
    shared = [ament_prefix.python_package(path) for path in packages if path.parent == SOURCES]
    shared.append(ament_prefix.models_package(REPOSITORY / "models"))
    shared.append(ament_prefix.bringup_package(REPOSITORY / "launch"))
    changes += sum(ament_prefix.link_share(env.root, package) for package in shared)
    if changes:
        print(f"== ROS prefix: {changes} links brought up to date")


def check_paths(env: Environment) -> None:
    for path in (REPOSITORY, env.root):
        if re.search(r"\s", str(path)):
            raise SetupError(
                f"The path '{path}' has a blank in it, but make and the ROS build tools cannot handle one: "
                "move the repository, or name another folder with WPT_VENV."
            )


def set_up(env: Environment) -> None:
    check_python()
    check_paths(env)
    env.state.mkdir(parents=True, exist_ok=True)
    with (env.state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another set-up of {env.root} is running, waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        env.lock = lock
        make_venv(env)
        wheels_key = install_wheels(env)
        for source in INTERFACES:
            build_interfaces(env, source, wheels_key)
        install_packages(env, wheels_key)
        lay_out_prefix(env)


def remove(env: Environment) -> None:
    """Delete an environment that this program made; anything else is refused."""
    if not env.root.exists():
        return
    if not (env.state.is_dir() and (env.root / "pyvenv.cfg").is_file()):
        raise SetupError(f"{env.root} was not made by `make env`: remove it by hand if it is not needed.")
    shutil.rmtree(env.root)
    print(f"removed {env.root}")


def main() -> int:
    env = Environment(Path(os.environ.get("WPT_VENV") or REPOSITORY / ".venv").absolute())
    try:
        if sys.argv[1:] == ["--remove"]:
            remove(env)
        elif sys.argv[1:]:
            raise SetupError(
                f"arguments {sys.argv[1:]} are not known, expected none or --remove: see the Makefile."
            )
        else:
            set_up(env)
    except SetupError as error:
        print(f"make env: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake env: interrupted; `make env` goes on where it stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
