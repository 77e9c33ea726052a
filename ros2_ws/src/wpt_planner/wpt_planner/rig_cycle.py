"""Which images can be of one cycle of the rig, by the cameras' offsets as measured from recent stamps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from wpt_planner.camera_stagger import Stagger, estimate_stagger

# Images per camera from which offsets are measured: a good second at 12 Hz.
_MEASURED_IMAGES = 16

# Cycles between two measurements once the offsets are known; one takes some 200 us for six cameras.
_MEASURED_EVERY = 8


class RigCycle:
    """Cameras by index, stamps in ns. Where an offset is unknown, any two images may go together."""

    def __init__(self, cameras: Sequence[str], max_skew_ns: int) -> None:
        self._cameras = tuple(cameras)
        self._max_skew = max_skew_ns
        self._stamps: list[deque[int]] = [deque(maxlen=_MEASURED_IMAGES) for _ in self._cameras]
        self._offsets: list[int | None] = [None] * len(self._cameras)
        self._tolerance = 0
        self._until_measured = 4 * len(self._cameras)
        self.stagger: Stagger | None = None

    def note(self, camera: int, stamp_ns: int) -> None:
        """Note an image and, every few cycles, measure the offsets anew."""
        stamps = self._stamps[camera]
        if stamps and stamp_ns <= stamps[-1]:  # the camera has come back from another time line
            stamps.clear()
        stamps.append(stamp_ns)
        self._until_measured -= 1
        if self._until_measured > 0:
            return
        measured = estimate_stagger(dict(zip(self._cameras, self._stamps, strict=True)), self.stagger)
        if measured is not None and self._is_trusted(measured):
            self.stagger = measured
            # Images of neighbouring cycles differ by the shortest interval at least, those of one cycle by
            # jitter.
            self._tolerance = measured.shortest_ns // 2
            self._offsets = [measured.offsets_ns.get(camera) for camera in self._cameras]
        self._until_measured = len(self._cameras) * (1 if self.stagger is None else _MEASURED_EVERY)

    def forget_stamps(self) -> None:
        """Start a new time line; the offsets stay, they belong to the rig."""
        for stamps in self._stamps:
            stamps.clear()

    def agree(self, first: int, first_ns: int, second: int, second_ns: int) -> bool:
        """Whether images of two cameras can be of one cycle."""
        first_offset, second_offset = self._offsets[first], self._offsets[second]
        if first_offset is None or second_offset is None:
            return True
        return abs(first_ns - first_offset - second_ns + second_offset) <= self._tolerance

    def _is_trusted(self, measured: Stagger) -> bool:
        """Whether a measurement holds for every living camera and shows where cycles end.

        Images of a camera without offset can go with either of two cycles, and with cameras unknown, two gaps
        around them may merge into one that looks like the cycle's end. With a legal bound the end alone is
        longer than the period minus the bound.
        """
        unknown = [index for index, camera in enumerate(self._cameras) if camera not in measured.offsets_ns]
        if not unknown:
            return True
        newest = max(stamps[-1] for stamps in self._stamps if stamps)
        oldest = newest - _MEASURED_IMAGES * measured.period_ns
        if any(self._stamps[index] and self._stamps[index][-1] > oldest for index in unknown):
            return False
        return measured.largest_gap_ns < measured.period_ns - self._max_skew

    def needed_for_complete_sets(self) -> bool:
        """Whether a set of all cameras within max_skew may mix cycles, unless offsets are compared.

        By the proof in camera_stagger it cannot where the bound stays below the shortest interval minus the
        largest gap; a tenth of the interval is left for jitter. Then a wrongly measured offset can spoil no
        complete set.
        """
        stagger = self.stagger
        return stagger is not None and self._max_skew >= 0.9 * stagger.shortest_ns - stagger.largest_gap_ns

    def agrees_with_all(self, camera: int, stamp_ns: int, stamps: Mapping[int, int]) -> bool:
        """Whether an image can be of the cycle of all these images (camera -> stamp)."""
        return all(self.agree(camera, stamp_ns, other, other_ns) for other, other_ns in stamps.items())

    def may_still_join(self, camera: int, after_ns: int, stamps: Mapping[int, int]) -> bool:
        """Whether an image of the camera after ``after_ns`` could be of the cycle of all these images."""
        offset = self._offsets[camera]
        if offset is None:
            return True
        return all(
            self._offsets[other] is None
            or after_ns - offset < other_ns - self._offsets[other] + self._tolerance
            for other, other_ns in stamps.items()
        )
