"""The shipped bundle of seeded random weights is what its command makes, and says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from wpt_policy.bundle import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, load_bundle, verify_bundle
from wpt_policy.seeded_weights import write_seeded_bundle

SHIPPED = Path(__file__).resolve().parents[4] / "models" / "wpt-seeded"


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="the package is tested outside its repository")
def test_the_shipped_bundle_is_what_the_command_makes(tmp_path: Path) -> None:
    write_seeded_bundle(tmp_path / "again", seed=load_bundle(SHIPPED).config.provenance.seed)
    for name in (CARD_FILE, CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (SHIPPED / name).read_bytes(), name


def test_it_is_small_valid_and_says_that_it_is_untrained(tmp_path: Path) -> None:
    bundle = write_seeded_bundle(tmp_path)
    assert verify_bundle(tmp_path) == []
    assert (tmp_path / WEIGHTS_FILE).stat().st_size < 2_500_000
    assert not bundle.config.provenance.trained
    card = (tmp_path / CARD_FILE).read_text()
    assert card.startswith("# wpt-seeded: SEEDED RANDOM WEIGHTS") and "Never drive" in card


def test_seeds_differ(tmp_path: Path) -> None:
    assert write_seeded_bundle(tmp_path, 1).sha256 != write_seeded_bundle(tmp_path, 2).sha256
