"""The container files, as far as they can be held without an engine: the paths that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
DOCKERFILES = sorted((REPOSITORY / "docker").glob("*.Dockerfile"))


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, rest) with continued lines joined and comments dropped."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def test_there_are_container_files() -> None:
    assert [path.name for path in DOCKERFILES] == ["pip.Dockerfile", "ros.Dockerfile"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_copied_path_exists(dockerfile: Path) -> None:
    copies = [rest.split() for word, rest in instructions(dockerfile) if word == "COPY"]
    assert copies
    for *sources, _ in copies:
        for source in sources:
            assert (REPOSITORY / source).exists(), f"{dockerfile.name} copies {source}"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_named_repository_path_exists(dockerfile: Path) -> None:
    """Paths below /wpt, the requirement lists, and make's targets."""
    text = "\n".join(rest for _, rest in instructions(dockerfile))
    named = set(re.findall(r"(?:/wpt/)((?:ros2_ws/src|models|launch)/[\w./-]+)", text))
    named |= set(re.findall(r"requirements/[\w.]+", text)) | set(re.findall(r"ros2_ws/src(?=\s)", text))
    for path in named:
        assert (REPOSITORY / path).exists(), f"{dockerfile.name} names {path}"
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for word, rest in instructions(dockerfile):
        called = re.findall(r"(?<!c)make ([a-z-]+)", rest) if word == "RUN" else []
        called += re.findall(r'"make", "([a-z-]+)"', rest) if word == "CMD" else []
        assert set(called) <= targets


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_arguments_are_declared_before_use(dockerfile: Path) -> None:
    declared: set[str] = set()
    for word, rest in instructions(dockerfile):
        if word == "ARG":
            declared.add(rest.split("=")[0])
        assert set(re.findall(r"\$\{(\w+)\}", rest)) <= declared


def test_compose_builds_from_these_files() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker/compose.yaml").read_text())
    for service in compose["services"].values():
        build = service["build"]
        assert (REPOSITORY / "docker" / build["context"]).resolve() == REPOSITORY
        dockerfile = REPOSITORY / build["dockerfile"]
        assert dockerfile in DOCKERFILES
        assert set(build["args"]) <= {
            rest.split("=")[0] for word, rest in instructions(dockerfile) if word == "ARG"
        }
