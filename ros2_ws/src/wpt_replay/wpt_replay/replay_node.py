"""Plays a bag to a planner: in real time on an absolute schedule, or in lockstep with its answers.

`ros2 bag play` plays the same bags; this player adds lockstep, waits for its subscribers, gives tf_static and
the camera_info to a planner before its first image, and says how late it was.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rclpy.node import Node

from wpt_replay.bag_info import IMAGE_TYPES, is_camera
from wpt_replay.bag_reader import BagMessage, BagReader, BagTopic, header_stamp_ns
from wpt_replay.errors import ReplayError
from wpt_replay.raw_publishers import RawPublishers
from wpt_replay.replay_clock import CLOCK_TOPIC, ClockTicks, ReplayClock
from wpt_replay.replay_report import ReplayOptions, ReplayReport
from wpt_replay.replay_schedule import Cycle, CycleSplitter, RealTimeSchedule, Role, TimedMessage, lockstep
from wpt_replay.set_release import SetReports

NODE_NAME = "wpt_replay"
ODOMETRY_TYPE = "nav_msgs/msg/Odometry"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
POLL_S = 0.05
# Real time begins when no further camera has found a subscriber for so long: a planner subscribes to all in
# one go.
UNCHANGED_S = 0.5
# Best-effort subscribers acknowledge nothing; loopback delivery takes a few ms, a busy Python reader some
# tens.
SETTLE_S = 0.2
# How long the end of a replay waits for reliable subscribers; a stuck one must not hold the program.
ACKNOWLEDGE_S = 1.0
# How long a lockstep loop waits for the planner to report the reset that a clock jump causes.
RESET_S = 2.0
# While time is held, /clock is repeated so that late subscribers of it learn the time.
CLOCK_REPEAT_S = 0.25
# An image may come this much before the last tick of /clock says, in simulated time; else a tick goes before
# it.
CLOCK_LEAD_NS = 2_000_000


class Replayer:
    """Plays one bag with a node; build it, then call run() once, in any thread.

    The node has to be spun by another thread when lockstep is asked for (its reports come in that way). Other
    threads may call stop(); a shut-down context stops it too. Before the first message it waits for
    subscribers: in lockstep for the planner's reports and a subscriber of every image topic, in real time for
    any image topic, or for all topics in options.wait_for; besides, for all in options.wait_also.
    on_progress(bag seconds) is called after each message, on_image(topic, stamp in ns, monotonic ns) just
    before each image is published.

    Raises BagError for a bag that cannot be read, ReplayError for options that do not fit it, and, from
    run(), when in lockstep no planner is there.
    """

    def __init__(
        self,
        node: Node,
        bag: str | Path,
        options: ReplayOptions | None = None,
        *,
        on_progress: Callable[[float], None] | None = None,
        on_image: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._node = node
        self._options = options if options is not None else ReplayOptions()
        self._on_progress = on_progress
        self._on_image = on_image
        self._stop = threading.Event()
        self._bag = BagReader(bag)
        self.report = ReplayReport(
            bag=str(bag), lockstep=self._options.lockstep, rate=self._options.playing_rate
        )
        try:
            self._open()
        except BaseException:
            self._bag.close()
            raise
        node.context.on_shutdown(self.stop)

    def _open(self) -> None:
        bag, options = self._bag, self._options
        self._start_ns = self._played_ns = bag.start_ns + round(options.start_s * 1e9)
        self._stop_ns = (
            bag.end_ns + 1 if options.stop_s is None else bag.start_ns + round(options.stop_s * 1e9)
        )
        if self._start_ns > bag.end_ns:
            raise ReplayError(
                f"start is {options.start_s:g} s and the bag {bag.path} lasts {bag.duration_ns / 1e9:.3f} s: "
                "begin earlier"
            )
        self._publishers = RawPublishers(self._node, self._chosen_topics(), options.remap)
        self.report.skipped.update(self._publishers.skipped)
        for topic, reason in self.report.skipped.items():
            self._node.get_logger().warning(f"{topic} is not played: {reason}")
        for name in (*options.wait_for, *options.wait_also):
            if name not in self._publishers.topics:
                raise ReplayError(
                    f"topic {name} is to be waited for but is not played: leave it out of wait-for"
                )
        topics = [bag.topics[name] for name in self._publishers.topics]
        self._roles = {topic.name: _role(topic) for topic in topics}
        self._with_header = {topic.name: bag.has_header(topic.name) for topic in topics}
        self._cameras = tuple(topic.name for topic in topics if is_camera(topic))
        if options.lockstep and not self._cameras:
            raise ReplayError(
                f"no image topic of bag {bag.path} is played, which lockstep goes by: play it in real time"
            )
        self._latched = [topic.name for topic in topics if topic.latched]
        self._camera_infos = [
            topic.name for topic in topics if topic.type_name == CAMERA_INFO_TYPE and topic.count
        ]
        self._clock = ReplayClock(self._node, options.clock_hz > 0)
        self._reports = (
            SetReports(self._node, options.set_report_topic, self._stop.is_set) if options.lockstep else None
        )

    def _chosen_topics(self) -> list[BagTopic]:
        """Topics to publish; what is left out although nobody asked for that is noted with its reason."""
        bag, options = self._bag, self._options
        waited = (*options.wait_for, *options.wait_also)
        for name in (*(options.topics or ()), *options.exclude, *waited, *options.remap):
            bag.topic(name)
        chosen = []
        for topic in bag.topics.values():
            if topic.name in options.exclude or (
                options.topics is not None and topic.name not in options.topics
            ):
                continue
            if topic.name == CLOCK_TOPIC and options.clock_hz > 0:
                self.report.skipped[topic.name] = "this player publishes /clock itself"
            elif topic.name.startswith(f"{options.planner}/"):
                self.report.skipped[topic.name] = f"it is an output of {options.planner}, which is played to"
            else:
                chosen.append(topic)
        return chosen

    def stop(self) -> None:
        """End the replay soon; to be called from another thread."""
        self._stop.set()
        if self._reports is not None:
            self._reports.wake()

    def run(self) -> ReplayReport:
        """Play, and return what became of it; also after stop() or Ctrl-C."""
        try:
            self._wait_for_subscribers()
            self._prime()
            self._play_loops()
            if not self._stop.is_set():
                self._publishers.wait_for_acknowledgement(ACKNOWLEDGE_S)
                self._stop.wait(SETTLE_S)
        except KeyboardInterrupt:  # in the main thread alone
            self._stop.set()
        except Exception:
            if self._node.context.ok():
                raise
            self._stop.set()  # publishing fails once somebody has shut the context down
        finally:
            if self._stop.is_set():
                self.report.ended = "interrupted"
            self._close()
        return self.report

    def _close(self) -> None:
        self._bag.close()
        if self._reports is not None:
            self.report.resets, self.report.unmatched_reports = self._reports.resets, self._reports.unmatched
        if self._node.context.ok():
            self._publishers.destroy()
            self._clock.destroy()
            if self._reports is not None:
                self._reports.destroy()

    # ---- before the first message

    def _wait_for_subscribers(self) -> None:
        options, log = self._options, self._node.get_logger()
        wanted = options.wait_for or self._cameras
        must_all = bool(options.wait_for) or options.lockstep
        deadline = time.monotonic() + options.wait_timeout_s
        matched: list[str] = []
        changed_s = time.monotonic()
        while (wanted or options.wait_also) and not self._stop.is_set():
            self._clock.set(self._start_ns)
            now_matched = [topic for topic in wanted if self._publishers.subscribers(topic)]
            if now_matched != matched:
                matched, changed_s = now_matched, time.monotonic()
            unchanged = time.monotonic() - changed_s > UNCHANGED_S
            planner_there = self._reports is None or self._reports.planners > 0
            heard = len(matched) == len(wanted) or (matched and unchanged and not must_all)
            also = [topic for topic in options.wait_also if not self._publishers.subscribers(topic)]
            if planner_there and heard and not also:
                break
            if time.monotonic() >= deadline:
                self._give_up_waiting(matched, wanted, planner_there, also)
                break
            self._stop.wait(POLL_S)
        self.report.unheard_cameras = tuple(t for t in self._cameras if not self._publishers.subscribers(t))
        if options.lockstep:
            # A set is made of what the planner listens to; a recorded seventh camera must not be waited for.
            self._cameras = tuple(
                topic for topic in self._cameras if topic not in self.report.unheard_cameras
            )
        self.report.cameras = self._cameras
        if self.report.unheard_cameras and not self._stop.is_set():
            log.warning(
                f"nobody subscribes to {', '.join(self.report.unheard_cameras)}; playing all the same"
            )

    def _give_up_waiting(
        self, matched: list[str], wanted: tuple[str, ...], planner_there: bool, also: list[str]
    ) -> None:
        """Raise ReplayError where playing would be pointless."""
        options = self._options
        seconds = f"after {options.wait_timeout_s:g} s"
        if options.lockstep and not planner_there:
            raise ReplayError(
                f"{seconds} nobody publishes {options.set_report_topic}, which lockstep waits for: start the "
                "planner, or name its node with --planner"
            )
        unheard = [topic for topic in wanted if topic not in matched]
        if not matched and options.lockstep or options.wait_for and unheard:
            raise ReplayError(
                f"{seconds} nobody subscribes to {', '.join(unheard)}: start the planner with these topics, "
                "or remap them"
            )
        if also:
            raise ReplayError(
                f"{seconds} nobody subscribes to {', '.join(also)}: start what listens to it, or leave it out of "
                "wait-also"
            )

    def _prime(self) -> None:
        """Give what stands still, tf_static and the first camera_info of each camera, before the first image.

        Latched messages from before options.start_s are given in any case: to begin in the middle loses them
        in `ros2 bag play`.
        """
        seen: set[str] = set()
        messages: list[BagMessage] = []
        if self._latched:
            messages += self._bag.messages(self._latched, stop_ns=self._start_ns)
            seen.update(message.topic for message in messages)
        for topic in (*self._latched, *self._camera_infos):
            first = next(self._bag.messages([topic], self._start_ns), None) if topic not in seen else None
            if first is not None:
                messages.append(first)
        for message in messages:
            if self._stop.is_set():
                return
            self._publishers.publish(message.topic, message.data)
            self.report.primed += 1
        if messages:
            self._publishers.wait_for_acknowledgement(ACKNOWLEDGE_S)
            self._stop.wait(SETTLE_S)

    # ---- playing

    def _play_loops(self) -> None:
        loops = self._options.loops
        while (
            not self._stop.is_set()
            and self.report.ended == "end"
            and (not loops or self.report.loops < loops)
        ):
            if self.report.loops > 0:
                self._jump_back()
            begin_s = time.monotonic()
            self._played_ns = self._start_ns
            try:
                if self._options.lockstep:
                    self._play_in_lockstep()
                else:
                    self._play_in_real_time()
            finally:
                self.report.wall_s += time.monotonic() - begin_s
                self.report.bag_s += (self._played_ns - self._start_ns) / 1e9
            if not self._stop.is_set():
                self.report.loops += 1

    def _jump_back(self) -> None:
        """Set /clock back to the start and let the planner reset on it before old stamps come again."""
        if self._reports is None:
            self._clock.set(self._start_ns)
            self._stop.wait(SETTLE_S)
            return
        deadline = time.monotonic() + RESET_S
        while time.monotonic() < deadline and not self._stop.is_set():
            self._clock.set(self._start_ns)
            if self._reports.wait_for_reset(CLOCK_REPEAT_S) is not None:
                return
        if not self._stop.is_set():
            self.report.resets_missed += 1
            self._node.get_logger().warning(
                f"the planner reported no reset within {RESET_S:g} s of the clock's jump back"
            )

    def _messages(self) -> Iterator[TimedMessage]:
        for message in self._bag.messages(self._publishers.topics, self._start_ns, self._stop_ns):
            stamp = header_stamp_ns(message.data) if self._with_header[message.topic] else None
            yield TimedMessage(
                message.topic,
                self._roles[message.topic],
                message.stamp_ns if stamp is None else stamp,
                message.stamp_ns,
                message.data,
            )

    def _publish(self, message: TimedMessage) -> None:
        if self._on_image is not None and message.role is Role.IMAGE:
            self._on_image(message.topic, message.stamp_ns, time.monotonic_ns())
        self._publishers.publish(message.topic, message.data)
        self.report.published[message.topic] += 1
        self._played_ns = message.record_ns
        if self._on_progress is not None:
            self._on_progress((message.record_ns - self._start_ns) / 1e9)

    def _count(self, cycle: Cycle) -> None:
        if cycle.complete:
            self.report.cycles_complete += 1
        else:
            self.report.cycles_incomplete += 1

    def _play_in_real_time(self) -> None:
        schedule = RealTimeSchedule(self._start_ns, time.monotonic_ns(), self._options.playing_rate)
        splitter = CycleSplitter(self._cameras, round(self._options.max_skew_s * 1e9))
        ticks = ClockTicks(self._options.clock_hz)
        for message in self._messages():
            due_ns = schedule.due_ns(message.record_ns)
            while (tick_ns := ticks.next_until(due_ns)) is not None:
                if self._sleep_until(tick_ns):
                    return
                self._clock.set(schedule.simulated_ns(tick_ns))
            if self._sleep_until(due_ns):
                return
            if message.role is Role.IMAGE and message.record_ns - self._clock.now_ns > CLOCK_LEAD_NS:
                self._clock.set(message.record_ns)
            self._publish(message)
            self.report.lateness.add(time.monotonic_ns() - due_ns)
            if message.topic in self._cameras:
                if splitter.ends_before_image(message.topic, message.stamp_ns):
                    self._count(splitter.end())
                splitter.add(message.topic, message.stamp_ns)
        if splitter.cycle is not None:
            self._count(splitter.end())

    def _play_in_lockstep(self) -> None:
        due_ns = time.monotonic_ns()
        for item in lockstep(
            self._messages(),
            self._cameras,
            has_odometry=Role.ODOMETRY in self._roles.values(),
            max_skew_ns=round(self._options.max_skew_s * 1e9),
        ):
            if isinstance(item, Cycle):
                self._await_answer(item)
                if self.report.ended != "end":
                    return
                continue
            due_ns += round((item.record_ns - self._played_ns) / self._options.playing_rate)
            if self._sleep_until(due_ns):
                return
            due_ns = max(due_ns, time.monotonic_ns())
            if item.record_ns > self._clock.now_ns:
                self._clock.set(item.record_ns)
            self._publish(item)

    def _await_answer(self, cycle: Cycle) -> None:
        assert self._reports is not None
        deadline = time.monotonic() + self._options.report_timeout_s
        answer = None
        while answer is None and time.monotonic() < deadline and not self._stop.is_set():
            answer = self._reports.wait_for(cycle, min(CLOCK_REPEAT_S, max(0.0, deadline - time.monotonic())))
            if answer is None:
                self._clock.repeat()
        if answer is None and self._stop.is_set():
            return
        self._count(cycle)
        if answer is not None:
            self.report.outcomes[answer.outcome] += 1
            if answer.reason:
                self._node.get_logger().info(
                    f"set at {answer.stamp_ns} ns: {answer.outcome}: {answer.reason}"
                )
            return
        self.report.timed_out.append(cycle.newest_ns)
        log = self._node.get_logger()
        if self._reports.planners == 0:
            self.report.ended = "planner gone"
            log.error(
                f"nobody publishes {self._options.set_report_topic} any more: the planner is gone, the "
                "replay ends"
            )
        else:
            log.warning(
                f"no report on the set at {cycle.newest_ns} ns ({len(cycle.images)} images) within "
                f"{self._options.report_timeout_s:g} s; going on"
            )

    def _sleep_until(self, steady_ns: int) -> bool:
        """Wait until a time of the monotonic clock; return whether the replay is to stop."""
        while (remaining := steady_ns - time.monotonic_ns()) > 0:
            if self._stop.wait(remaining / 1e9):
                return True
        return self._stop.is_set()


def _role(topic: BagTopic) -> Role:
    if topic.type_name in IMAGE_TYPES:
        return Role.IMAGE
    return Role.ODOMETRY if topic.type_name == ODOMETRY_TYPE else Role.OTHER


def main(argv: list[str] | None = None) -> int:
    """Entry point of the executable ``replay_node``, for launch files: `wpt-replay play`."""
    from wpt_replay.replay_cli import main as run_command

    return run_command(["play", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
