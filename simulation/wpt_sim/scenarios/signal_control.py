"""Signals that show a link what a scenario needs, by the phases of their own program."""

from __future__ import annotations

from types import ModuleType


class SignalControl:
    """One signal. Phases keep their order, so that every change passes through yellow."""

    def __init__(self, libsumo: ModuleType, signal: str):
        self._light = libsumo.trafficlight
        self.signal = signal
        self.phases = [phase.state for phase in self._light.getAllProgramLogics(signal)[0].phases]

    def _show(self, index: int, seconds: float) -> None:
        self._light.setPhase(self.signal, index)
        self._light.setPhaseDuration(self.signal, seconds)

    def hold_green(self, link: int, seconds: float, other_green: int | None = None) -> bool:
        """Green for `link` (and other_green) from now on for `seconds`; False where no phase shows that."""
        for index, state in enumerate(self.phases):
            if state[link] in "gG" and (other_green is None or state[other_green] in "gG"):
                self._show(index, seconds)
                return True
        return False

    def hold_red(self, link: int, seconds: float) -> bool:
        """Red for `link` for `seconds`, in the longest phase before it turns green."""
        reds = [i for i, state in enumerate(self.phases) if state[link] == "r" and "G" in state]
        if not reds:
            return False
        self._show(reds[-1], seconds)
        return True

    def start_yellow(self, link: int) -> None:
        """Go on to the yellow phase of `link` now."""
        for index, state in enumerate(self.phases):
            if state[link] == "y":
                self._light.setPhase(self.signal, index)
                return
