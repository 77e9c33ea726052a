"""The lifecycle node: declares, subscribes, hands over to the planning line, publishes.

Unconfigured -> configure loads the planner and listens to /tf_static -> activate subscribes to the rest and plans.
/diagnostics is there in every state, so that a node that does not plan says why.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import cv2
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockChange, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import SetBool, Trigger
from wpt_policy.planner import Planner

from wpt_planner import topics
from wpt_planner.autostart import Autostart
from wpt_planner.diagnostics import planner_values
from wpt_planner.findings import Level, Rank
from wpt_planner.node_guards import guarded, transition
from wpt_planner.node_watch import NodeStatus, NodeWatch
from wpt_planner.parameters import (
    ParameterError,
    PlannerParameters,
    declare_parameters,
    load_declarations,
    read_parameters,
)
from wpt_planner.plan_outputs import PlanOutputs
from wpt_planner.planning_line import PlanningLine

NODE_NAME = "planner"
_WATCH_PERIOD_S = 0.2
# With SIGINT the process must be gone within two seconds; a planner that works longer is left behind.
_JOIN_LIMIT_S = 1.5
_FORWARD_JUMP = Duration(seconds=10)
PlannerFactory = Callable[..., Planner]


def make_planner(spec: str, *, device: str, precision: str) -> Planner:
    """wpt_policy.registry.make_planner, imported when a planner is wanted: torch takes seconds, /diagnostics does not."""
    from wpt_policy import registry

    return registry.make_planner(spec, device=device, precision=precision)


class PlannerNode(LifecycleNode):
    """Six camera topics in, a planned trajectory out. planner_factory: as make_planner."""

    def __init__(self, *, planner_factory: PlannerFactory = make_planner, **node_options: Any) -> None:
        super().__init__(NODE_NAME, **node_options)
        self._planner_factory = planner_factory
        self._line: PlanningLine | None = None
        self._outputs: PlanOutputs | None = None
        self._transform_subscriptions: list[Any] = []
        self._subscriptions_while_active: list[Any] = []
        self._clock_jumps: Any = None
        self._active_since_ns: int | None = None
        self._failure = ""
        self._python_switch_interval = sys.getswitchinterval()
        self.is_loading = False
        self.joined = True

        declare_parameters(self)
        self._name_unknown_parameters()
        self.add_on_set_parameters_callback(self._judge_parameters)
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._watch = NodeWatch(self)
        self._autostart = Autostart(enabled=bool(self.get_parameter("autostart").value))
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/enable", self._on_enable)
        # Set off by the assembler's deadlines, see _arm_deadline.
        self._deadline_timer = self.create_timer(3600.0, self._on_deadline, clock=self._steady_clock)
        self._deadline_timer.cancel()
        self._armed_for_ns: int | None = None
        self.create_timer(_WATCH_PERIOD_S, self._look_around, clock=self._steady_clock)

    def _name_unknown_parameters(self) -> None:
        """Say which values given at start belong to no parameter: rclpy drops them without a word."""
        unknown = [
            name
            for name in self._parameter_overrides
            if not self.has_parameter(name) and not name.startswith("qos_overrides.")
        ]
        if unknown:
            self.get_logger().warning(
                f"unknown parameters {', '.join(sorted(unknown))} are not used, expected those of the README; "
                "correct their names"
            )

    # Lifecycle

    @property
    def state_label(self) -> str:
        """unconfigured, inactive, active, finalized, or a transition's name. (rclpy offers no public reader.)"""
        return self._state_machine.current_state[1]

    @transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the planner and begin to listen to /tf_static. FAILURE, with the reason on log and /diagnostics, where
        parameters, bundle or device cannot be used: the node stays unconfigured."""
        try:
            self._configure(read_parameters(self))
        except Exception as error:  # noqa: BLE001 - a bundle may fail in any way, and the reason must be seen
            self._release()
            name = (
                "" if isinstance(error, ValueError | LookupError | OSError) else f"{type(error).__name__}: "
            )
            reason = f"cannot configure: {name}{' '.join(str(error).split())}"
            if reason != self._failure:
                self.get_logger().error(reason)
                self.get_logger().debug(traceback.format_exc())
            self._failure = reason
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        return super().on_configure(state)

    @transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to cameras, odometry and command; plan."""
        line = self._require_line()
        if line.is_hanging:
            self._failure = (
                f"{line.planner.name} is still at work on a set from before the deactivation; wait until it has ended, or "
                "cleanup and configure for a new one"
            )
            self.get_logger().error(f"not activated: {self._failure}")
            return TransitionCallbackReturn.FAILURE
        result = super().on_activate(state)
        if result is not TransitionCallbackReturn.SUCCESS:
            return result
        line.start()
        self._failure = ""
        self._active_since_ns = time.monotonic_ns()
        self._watch.restart()
        self._clock_jumps = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=_FORWARD_JUMP, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=self._on_clock_jump,
        )
        # What a set is judged with comes first: where several messages wait, the executor takes them in this order.
        self._subscribe(topics.ODOMETRY, self._on_odometry)
        self._subscribe(topics.COMMAND, self._on_command)
        transport = line.parameters.transport
        for name in line.camera_names:
            self._subscribe(topics.image_topic(name, transport), functools.partial(self._on_image, name))
            self._subscribe(topics.camera_info_topic(name), functools.partial(self._on_camera_info, name))
        self.get_logger().info(
            f"active with {line.planner.name}: waiting for {len(line.camera_names)} cameras by {transport} images"
        )
        return result

    @transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop planning and drop the inputs; planner, transforms and camera_info stay."""
        self._stop()
        return super().on_deactivate(state)

    @transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the planner and its memory go."""
        self._release()
        return super().on_cleanup(state)

    @transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and let everything go."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Come back to unconfigured after a transition that failed half-way."""
        self._failure = self._failure or f"transition from {state.label} failed; configure the node again"
        self.get_logger().error(self._failure)
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self, parameters: PlannerParameters) -> None:
        cv2.setNumThreads(parameters.opencv_threads)
        if parameters.switch_interval > 0:
            sys.setswitchinterval(parameters.switch_interval)
        self.is_loading = True
        try:
            planner = self._planner_factory(
                parameters.planner, device=parameters.device, precision=parameters.precision
            )
            if (torch := sys.modules.get("torch")) is not None:  # imported by those planners that need it
                torch.set_num_threads(parameters.torch_threads)
            if (warm_up := getattr(planner, "warm_up", None)) is not None:
                warm_up()
        finally:
            self.is_loading = False
        if planner.commands and parameters.default_command not in planner.commands:
            known = ", ".join(command.label for command in planner.commands)
            raise ParameterError(
                f"default_command {parameters.default_command.label} is not known by {planner.name}, expected one of {known}"
            )
        names = tuple(planner.cameras) or parameters.cameras
        self._outputs = PlanOutputs(self, parameters, names, self._watch.note_incompatible)
        self._line = PlanningLine(
            parameters,
            planner,
            self._outputs,
            use_sim_time=self.get_clock().ros_time_is_active,
            ros_now_ns=self._ros_now_ns,
        )
        for topic in topics.TF_STATIC:
            self._transform_subscriptions.append(
                self.create_subscription(topic.type, topic.name, self._on_transforms, topic.qos())
            )
        self.get_logger().info("; ".join(f"{key}: {value}" for key, value in planner_values(self._line)))

    def _stop(self) -> None:
        """Drop inputs and end the worker; harmless where nothing runs."""
        for subscription in self._subscriptions_while_active:
            self.destroy_subscription(subscription)
        self._subscriptions_while_active.clear()
        if self._clock_jumps is not None:
            self._clock_jumps.unregister()
            self._clock_jumps = None
        self._deadline_timer.cancel()
        self._armed_for_ns = None
        self._active_since_ns = None
        if self._line is not None and not self._line.stop(_JOIN_LIMIT_S):
            self.joined = False
            self.get_logger().error(
                f"the planner did not end its work within {_JOIN_LIMIT_S} s and is left behind"
            )

    def _release(self) -> None:
        self._stop()
        for subscription in self._transform_subscriptions:
            self.destroy_subscription(subscription)
        self._transform_subscriptions.clear()
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        sys.setswitchinterval(self._python_switch_interval)

    def end(self) -> None:
        """Leave in good order: stop planning, join the worker, tell the lifecycle."""
        if self.state_label in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()
        self._release()

    # Inputs

    def _subscribe(self, topic: topics.Topic, callback: Callable[[Any], None]) -> None:
        name = self.resolve_topic_name(topic.name)
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._watch.note_incompatible(name, event)
        )
        self._subscriptions_while_active.append(
            self.create_subscription(
                topic.type,
                topic.name,
                callback,
                topic.qos(),
                event_callbacks=events,
                qos_overriding_options=topics.OVERRIDABLE,
            )
        )

    @guarded
    def _on_transforms(self, message: Any) -> None:
        self._require_line().on_transforms(message)

    @guarded
    def _on_image(self, name: str, message: Any) -> None:
        self._require_line().on_image(name, message)
        self._arm_deadline()

    @guarded
    def _on_camera_info(self, name: str, message: Any) -> None:
        self._require_line().on_camera_info(name, message)

    @guarded
    def _on_odometry(self, message: Any) -> None:
        self._require_line().on_odometry(message)

    @guarded
    def _on_command(self, message: Any) -> None:
        self._require_line().on_command(message)

    @guarded
    def _on_deadline(self) -> None:
        self._deadline_timer.cancel()
        self._armed_for_ns = None
        if self._line is not None and self._active_since_ns is not None:
            self._line.poll()
            self._arm_deadline()

    def _arm_deadline(self) -> None:
        """Let the timer go off when the first open set times out. It is left alone when it goes off early anyway."""
        deadline_ns = self._require_line().sets.next_deadline_ns()
        if deadline_ns is None or (self._armed_for_ns is not None and self._armed_for_ns <= deadline_ns):
            return
        self._armed_for_ns = deadline_ns
        self._deadline_timer.timer_period_ns = max(100_000, deadline_ns - time.monotonic_ns())
        self._deadline_timer.reset()

    @guarded
    def _on_clock_jump(self, jump: TimeJump) -> None:
        line, now_ns = self._require_line(), self._ros_now_ns()
        if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            line.supervisor.use_sim_time = self.get_clock().ros_time_is_active
            line.clock_jumped(now_ns, "use_sim_time was changed")
        elif now_ns != jump.delta.nanoseconds:  # from 0: simulated time begins
            line.clock_jumped(now_ns, f"the ROS clock jumped by {jump.delta.nanoseconds / 1e9:.3f} s")

    # Services and parameters

    @guarded
    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._line is not None and self._active_since_ns is not None
        if response.success:
            self._require_line().reset("asked for by the ~/reset service")
            response.message = "assembler, ego motion and memory are empty"
        else:
            response.message = f"the node is {self.state_label} and has nothing to reset"
        return response

    @guarded
    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success = self._line is not None
        if response.success:
            self._require_line().enabled = request.data
            response.message = "planning is switched on" if request.data else "planning is switched off"
        else:
            response.message = f"the node is {self.state_label}; configure it first"
        return response

    def _judge_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        declarations = load_declarations()
        for parameter in parameters:
            if (declaration := declarations.get(parameter.name)) is None:
                continue
            if (problem := declaration.problem(parameter.value)) is not None:
                return SetParametersResult(successful=False, reason=problem)
            if self._line is not None:
                return SetParametersResult(
                    successful=False,
                    reason=f"parameter {parameter.name} is read by configure: bring the node to unconfigured first "
                    f"(ros2 lifecycle set {self.get_fully_qualified_name()} cleanup)",
                )
        return SetParametersResult(successful=True)

    # Watching

    def report_fault(self, subject: str, sentence: str, details: str) -> None:
        """Show an unexpected exception of a callback."""
        if self._line is not None:
            self._line.note(Rank.PLANNER, Level.ERROR, subject, sentence, details)
        else:
            self.get_logger().error(sentence, throttle_duration_sec=5.0)

    def transition_begins(self) -> None:
        """A transition that is not autostart's own ends autostart."""
        self._autostart.transition_begins()

    def transition_failed(self, sentence: str, details: str) -> None:
        """Keep the reason of a transition that raised; on_error follows."""
        self._failure = sentence
        self.get_logger().debug(details)

    @guarded
    def _look_around(self) -> None:
        """Every 0.2 s of steady time: autostart and watchdogs."""
        action = self._autostart.next_action(self.state_label, time.monotonic_ns())
        if action is not None:
            with self._autostart.acting():
                (self.trigger_configure if action == "configure" else self.trigger_activate)()
            is_further = self.state_label == {"configure": "inactive", "activate": "active"}[action]
            self._autostart.tried(succeeded=is_further, now_ns=time.monotonic_ns())
        now_ns = time.monotonic_ns()
        status = NodeStatus(
            label=self.state_label,
            failure=self._failure,
            next_attempt_s=self._autostart.seconds_to_next(now_ns),
            active_since_ns=self._active_since_ns,
        )
        self._watch.look(status, self._line, now_ns)

    def _ros_now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _require_line(self) -> PlanningLine:
        if self._line is None:
            raise RuntimeError("the node is not configured")
        return self._line


class StopSignal:
    """SIGINT and SIGTERM ask for the end, once; while a planner is loaded they interrupt it.

    rclpy's own handlers end the context at once, under the feet of the worker that still publishes.
    """

    def __init__(self, node: PlannerNode | None = None) -> None:
        self.received = False
        self.node = node
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: Any) -> None:
        is_first, self.received = not self.received, True
        if is_first and self.node is not None and self.node.is_loading:
            raise KeyboardInterrupt


def run(args: Sequence[str] | None = None, planner_factory: PlannerFactory = make_planner) -> int:
    """Run the node until SIGINT or SIGTERM; returns 0 then, 1 where it cannot start."""
    stop = StopSignal()
    try:
        rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
        node = PlannerNode(planner_factory=planner_factory)
    except Exception as error:  # noqa: BLE001 - a wrong --ros-args, parameter file or value: one sentence, not a traceback
        print(f"planner_node cannot start: {' '.join(str(error).split())}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    stop.node = node
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    # The node's own timer wakes the executor five times per second, so that Python sees a signal in time.
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        while not stop.received:
            executor.spin_once()
    node.end()
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


def main(args: Sequence[str] | None = None, planner_factory: PlannerFactory = make_planner) -> NoReturn:
    """Run the node and end the process with its code."""
    code = run(args, planner_factory)
    sys.stdout.flush()
    sys.stderr.flush()
    # The node has ended in good order. Python's own end would take up to a second more to unload torch, and for ever
    # where a planner was left behind in its thread.
    os._exit(code)


if __name__ == "__main__":
    main()
