"""How much the planner node adds to a plan: six 1600x900 JPEG cameras at 12 Hz, no neural network.

Prints one JSON document. Two cases, each with the node in a process of its own and this program as the car:

  constant_velocity  the shipped baseline: receive, assemble, ego motion, supervise, publish; nothing is decoded
  images             a planner that reads six images (decode and resize to 704x256) and then plans at once

latency_ms runs from publish() of a set's newest image to the return of publish() of its plan, by the monotonic clock,
matched by stamp. floor_ms is what no planner node can go below on this machine: the same images to a bare subscriber
(transport alone), and for `images` the decoding on top: the images of a set queue for the decode threads.

    python3 benchmarks/planner_node.py --seconds 60
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
# Newest last; milliseconds before it, as on nuScenes vehicles.
STAGGER_MS = {
    "cam_front_left": 43.0, "cam_front": 35.0, "cam_front_right": 27.0, "cam_back_right": 20.0, "cam_back": 10.0,
    "cam_back_left": 0.0,
}  # fmt: skip
NEWEST = "cam_back_left"
CAMERAS = ("cam_front", "cam_front_right", "cam_back_right", "cam_back", "cam_back_left", "cam_front_left")
YAWS_DEG = {"cam_front": 0, "cam_front_right": -55, "cam_back_right": -110, "cam_back": 180, "cam_back_left": 110, "cam_front_left": 55}  # fmt: skip
WIDTH, HEIGHT = 1600, 900
INPUT_WIDTH, INPUT_HEIGHT = 704, 256
WARM_UP_SETS = 24
MATCH_LIMIT_S = 30.0


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p99 and max by nearest rank."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": math.nan, "p99": math.nan, "max": math.nan}
    rank = lambda share: ordered[max(0, math.ceil(share * len(ordered)) - 1)]  # noqa: E731
    return {"p50": round(rank(0.5), 3), "p99": round(rank(0.99), 3), "max": round(ordered[-1], 3)}


# The node's side


def serve_planner() -> None:
    """A planner node whose planner reads images and decides nothing."""
    from wpt_planner import planner_node
    from wpt_policy.baselines import StopPlanner
    from wpt_policy.image_input import ImageInput, ImageInputSpec

    class ImageReader(StopPlanner):
        name = "images"
        cameras = CAMERAS
        image_input = ImageInput(ImageInputSpec(width=INPUT_WIDTH, height=INPUT_HEIGHT))

    planner_node.main(sys.argv[:1] + sys.argv[2:], planner_factory=lambda spec, **options: ImageReader())


def serve_floor() -> None:
    """A bare subscriber: prints the monotonic time at which each newest image arrived."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from sensor_msgs.msg import CompressedImage
    from wpt_planner import topics

    rclpy.init()
    node = rclpy.create_node("floor")
    arrivals: dict[int, int] = {}

    def take(name: str, message: CompressedImage) -> None:
        now_ns = time.monotonic_ns()
        np.frombuffer(message.data, dtype=np.uint8)
        if name == NEWEST:
            arrivals[message.header.stamp.sec * 10**9 + message.header.stamp.nanosec] = now_ns

    for name in CAMERAS:
        topic = topics.image_topic(name, "compressed")
        node.create_subscription(
            topic.type, topic.name, lambda message, name=name: take(name, message), topic.qos()
        )
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    node.destroy_node()
    rclpy.try_shutdown()
    print(json.dumps(arrivals))


# The car's side


class Car:
    """Publishes everything that a planner needs, on time."""

    def __init__(self) -> None:
        import rclpy
        from nav_msgs.msg import Odometry
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import CameraInfo, CompressedImage
        from tf2_msgs.msg import TFMessage
        from wpt_msgs.msg import DrivingCommand, SetReport

        rclpy.init()
        self.rclpy = rclpy
        self.node = rclpy.create_node("car")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        create = self.node.create_publisher
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.images = {
            name: create(CompressedImage, f"/sensing/{name}/image_rect/compressed", 5) for name in CAMERAS
        }
        self.infos = {name: create(CameraInfo, f"/sensing/{name}/camera_info", 5) for name in CAMERAS}
        self.odometry = create(Odometry, "/localization/kinematic_state", 10)
        self.command = create(DrivingCommand, "/planning/command", 1)
        self.transforms = create(TFMessage, "/tf_static", latched)
        self.reports: dict[int, Any] = {}
        self.resets = 0
        self.node.create_subscription(SetReport, "/planner/set_report", self._take_report, 50)
        self.messages = {name: image_message(index) for index, name in enumerate(CAMERAS)}
        self.info_messages = {name: camera_info_message(name) for name in CAMERAS}
        self.published_ns: dict[int, int] = {}

    def _take_report(self, report: Any) -> None:
        if report.set_id:
            self.reports[report.header.stamp.sec * 10**9 + report.header.stamp.nanosec] = report
        else:
            self.resets += 1

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + MATCH_LIMIT_S
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"{what} did not come within {MATCH_LIMIT_S:.0f} s")
            self.executor.spin_once(timeout_sec=0.05)

    def wait_alone(self) -> None:
        """Wait until the process of the case before is gone from the graph."""
        self.wait(
            lambda: not any(one.get_subscription_count() for one in self.images.values()), "the end of a case"
        )

    def drive(self, seconds: float, rate_hz: float, *, with_planner: bool) -> list[int]:
        """Publish cycles; return the reference stamps of those after warming up."""
        from nav_msgs.msg import Odometry

        self.wait(
            lambda: all(one.get_subscription_count() for one in self.images.values()), "match of the images"
        )
        if with_planner:
            inputs = [*self.infos.values(), self.odometry, self.command, self.transforms]
            self.wait(lambda: all(one.get_subscription_count() for one in inputs), "match of the inputs")
        self.reports.clear()
        self.published_ns.clear()
        self.transforms.publish(transforms_message())
        odometry = Odometry(child_frame_id="base_link")
        odometry.header.frame_id = "map"
        odometry.pose.pose.orientation.w = 1.0
        start = time.monotonic() + 0.3
        references = []
        for cycle in range(round(seconds * rate_hz) + WARM_UP_SETS):
            for name, before_ms in STAGGER_MS.items():
                due = start + cycle / rate_hz - before_ms / 1e3
                while (left := due - time.monotonic()) > 0:
                    self.executor.spin_once(
                        timeout_sec=max(0.0, left - 0.002)
                    ) if left > 0.003 else time.sleep(left)
                stamp_ns = time.time_ns()
                message = self.messages[name]
                odometry.header.stamp.sec, odometry.header.stamp.nanosec = divmod(stamp_ns, 10**9)
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
                self.odometry.publish(odometry)
                self.info_messages[name].header.stamp = message.header.stamp
                self.infos[name].publish(self.info_messages[name])
                self.published_ns[stamp_ns] = time.monotonic_ns()
                self.images[name].publish(message)
            if cycle >= WARM_UP_SETS:
                references.append(stamp_ns)
        if with_planner:
            self.wait(lambda: references[-1] in self.reports, "the last report")
        return references


def image_message(seed: int) -> Any:
    """A JPEG of about the size of nuScenes' own (100 to 200 KB)."""
    from sensor_msgs.msg import CompressedImage

    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (HEIGHT // 18, WIDTH // 18, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    message = CompressedImage(format="jpeg")
    message.header.frame_id = CAMERAS[seed]
    message.data.frombytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
    return message


def camera_info_message(name: str) -> Any:
    from sensor_msgs.msg import CameraInfo

    k = [1266.0, 0.0, 816.0, 0.0, 1266.0, 491.0, 0.0, 0.0, 1.0]
    message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[0.0] * 5, k=k)
    message.header.frame_id = name
    message.r = np.eye(3).ravel()
    message.p = np.hstack([np.array(k).reshape(3, 3), np.zeros((3, 1))]).ravel()
    return message


def transforms_message() -> Any:
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage
    from wpt_policy import se3

    message = TFMessage()
    for name in CAMERAS:
        yaw = math.radians(YAWS_DEG[name])
        optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        transform = TransformStamped(child_frame_id=name)
        transform.header.frame_id = "base_link"
        place, turn = transform.transform.translation, transform.transform.rotation
        place.x, place.y, place.z = 1.0 + 0.6 * math.cos(yaw), 0.6 * math.sin(yaw), 1.5
        q = se3.quaternion_from_rotation(se3.planar(0, 0, yaw)[:3, :3] @ optical)
        turn.w, turn.x, turn.y, turn.z = (float(value) for value in q)
        message.transforms.append(transform)
    return message


# Measuring


def process_seconds(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return round(int(line.split()[1]) / 1024, 1)
    return math.nan


def start(*words: str) -> subprocess.Popen:
    """Start this program's other half."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), *words],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def measure_floor(car: Car, seconds: float, rate_hz: float) -> dict[str, float]:
    """Transport alone: publish() of the newest image to its arrival at a bare subscriber."""
    car.wait_alone()
    process = start("--serve-floor")
    references = car.drive(seconds, rate_hz, with_planner=False)
    process.send_signal(signal.SIGINT)
    arrivals = {int(stamp): at for stamp, at in json.loads(process.communicate()[0]).items()}
    return percentiles(
        [(arrivals[stamp] - car.published_ns[stamp]) / 1e6 for stamp in references if stamp in arrivals]
    )


def measure_decode(car: Car) -> float:
    """Milliseconds to decode and resize one image alone, the median of fifty."""
    from wpt_policy.image_input import ImageInput, ImageInputSpec

    cv2.setNumThreads(1)
    reader = ImageInput(ImageInputSpec(width=INPUT_WIDTH, height=INPUT_HEIGHT))
    data, times = car.messages[NEWEST].data, []
    for _ in range(50):
        begun = time.monotonic_ns()
        reader.decode(data)
        times.append((time.monotonic_ns() - begun) / 1e6)
    return round(sorted(times)[len(times) // 2], 3)


def last_decoded_ms(decode_ms: float, threads: int) -> float:
    """When the last image of a set is decoded, after its arrival, if nothing else ran: images queue for the threads."""
    arrivals = [max(STAGGER_MS.values()) - before for before in STAGGER_MS.values()]
    free = [0.0] * threads
    for arrival in arrivals:
        thread = free.index(min(free))
        free[thread] = max(free[thread], arrival) + decode_ms
    return round(max(free) - max(arrivals), 3)


def measure_planner(car: Car, seconds: float, rate_hz: float, words: list[str]) -> dict[str, Any]:
    """Latency, stages, CPU and memory of the node in one case."""
    car.wait_alone()
    process = start(*words)

    def is_matched() -> bool:
        return all(one.get_subscription_count() for one in car.images.values())

    car.wait(is_matched, "the planner node")
    begun, cpu_begun = time.monotonic(), process_seconds(process.pid)
    references = car.drive(seconds, rate_hz, with_planner=True)
    cpu = (process_seconds(process.pid) - cpu_begun) / (time.monotonic() - begun)
    memory = resident_mb(process.pid)
    signalled = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    ended = time.monotonic() - signalled
    planned = [
        car.reports[stamp] for stamp in references if stamp in car.reports and car.reports[stamp].outcome == 0
    ]
    stages: dict[str, list[float]] = {}
    for report in planned:
        for stage in report.stages:
            stages.setdefault(stage.name, []).append(stage.milliseconds)
    return {
        "sets_expected": len(references),
        "sets_planned": len(planned),
        "sets_without_report": sum(stamp not in car.reports for stamp in references),
        "not_planned": dict(
            Counter(
                car.reports[stamp].reason
                for stamp in references
                if stamp in car.reports and car.reports[stamp].outcome
            )
        ),
        "latency_ms": percentiles(
            [
                (report.published_steady_ns - car.published_ns[stamp]) / 1e6
                for stamp in references
                if (report := car.reports.get(stamp)) is not None and report.outcome == 0
            ]
        ),
        "inside_node_ms": percentiles([report.latency_ms for report in planned]),
        "stages_ms": {name: percentiles(values) for name, values in stages.items()},
        "cpu_percent_of_one_core": round(100 * cpu, 1),
        "resident_mb": memory,
        "sigint_to_exit_s": round(ended, 3),
        "exit_code": process.returncode,
    }


def hardware() -> dict[str, Any]:
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_gb, 1),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "opencv": cv2.__version__, "numpy": np.__version__}
    for name in ("rclpy", "rmw_fastrtps_cpp", "fastrtps", "wpt_planner"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def main() -> None:
    """Measure and print."""
    if "--serve-floor" in sys.argv:
        return serve_floor()
    if "--serve-planner" in sys.argv:
        return serve_planner()
    from wpt_planner.parameters import PlannerParameters

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each case")
    parser.add_argument("--rate", type=float, default=12.0, help="cycles of the cameras per second")
    parser.add_argument("--switch-interval", type=float, default=0.0005, help="of the node's Python, seconds")
    arguments = parser.parse_args()
    profile = str(REPOSITORY / "ros2_ws/src/wpt_planner/dds/fastdds_profile.xml")
    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        os.environ.setdefault(variable, profile)
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    document: dict[str, Any] = {
        "benchmark": "planner_node",
        "hardware": hardware(),
        "versions": versions(),
        "settings": {
            "cameras": len(CAMERAS), "image": f"{WIDTH}x{HEIGHT} JPEG", "rate_hz": arguments.rate,
            "seconds": arguments.seconds, "warm_up_sets": WARM_UP_SETS, "switch_interval_s": arguments.switch_interval,
            "newest_image_after_first_ms": max(STAGGER_MS.values()),
        },
    }  # fmt: skip
    car = Car()
    document["settings"]["jpeg_kb"] = round(len(car.messages[NEWEST].data) / 1024, 1)
    transport = measure_floor(car, min(arguments.seconds, 20.0), arguments.rate)
    decode = measure_decode(car)
    threads = PlannerParameters.from_values({}).decode_threads
    document["settings"]["decode_threads"] = threads
    document["floor_ms"] = {
        "transport": transport,
        "decode_of_one_image": decode,
        "decode_of_a_set_after_its_newest_image": last_decoded_ms(decode, threads),
    }
    common = ["--ros-args", "-p", f"switch_interval:={arguments.switch_interval}"]
    document["constant_velocity"] = measure_planner(
        car,
        arguments.seconds,
        arguments.rate,
        ["--serve-baseline", *common, "-p", "planner:=constant_velocity"],
    )
    document["images"] = measure_planner(car, arguments.seconds, arguments.rate, ["--serve-planner", *common])
    car.executor.shutdown()
    car.node.destroy_node()
    car.rclpy.try_shutdown()
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    if "--serve-baseline" in sys.argv:
        from wpt_planner import planner_node

        planner_node.main(sys.argv[:1] + sys.argv[2:])
    main()
