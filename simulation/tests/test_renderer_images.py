"""What the renderer draws lies where the world says, and what is nearer hides what is farther."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration, CameraRig
from wpt_policy.image_input import ImageInput, ImageInputSpec
from wpt_sim.actor_boxes import boxes_in_base
from wpt_sim.appearance import LIGHTS, Appearance
from wpt_sim.drivable_raster import drivable_raster, map_from_base
from wpt_sim.lane_strip import length_of_line
from wpt_sim.network import load_road_map, network_names
from wpt_sim.renderer import Renderer
from wpt_sim.renderer.camera_view import clip_at_depth
from wpt_sim.renderer.ground import map_ground, mask_ground
from wpt_sim.renderer.rigs import bench2drive_rig, nuscenes_rig, perturbed
from wpt_sim.renderer.vehicle_bodies import body_of
from wpt_sim.road_map import Building, Lane, LaneKind, RoadMap
from wpt_sim.still_traffic import ego_on_lane, still_state
from wpt_sim.vehicles import VEHICLES, VehicleSize
from wpt_sim.world_state import Actor, ActorKind, EgoPose, Lights, SignalColour, WorldState

DAY = {"light": "day", "noise": 0.0}
_EDGES = [(i, j) for i in range(8) for j in range(i) if bin(i ^ j).count("1") == 1]


@pytest.fixture(scope="module")
def town() -> RoadMap:
    return load_road_map(network_names("train")[0])


@pytest.fixture(scope="module")
def states(town: RoadMap) -> list[WorldState]:
    lanes = [
        lane
        for lane in town.lanes.values()
        if lane.kind is LaneKind.DRIVING and length_of_line(lane.centre_line) > 40
    ]
    return [
        still_state(town, ego_on_lane(lane, 25.0), count=40, reach=60.0, seed=i)
        for i, lane in enumerate(lanes[::11])
    ]


@pytest.fixture(scope="module")
def renderer(town: RoadMap) -> Renderer:
    return Renderer(town, nuscenes_rig(704, 396), Appearance(0, **DAY))


@pytest.fixture(scope="module")
def plain() -> RoadMap:
    """One straight road along x, nothing beside it."""
    line = np.array([[-150.0, 0.0], [150.0, 0.0]])
    lane = Lane(id="a", kind=LaneKind.DRIVING, centre_line=line, width=3.5, speed_limit=14.0, edge="a")
    return RoadMap(name="plain", lanes={"a": lane}, connections=(), junction_areas={})


@pytest.fixture(scope="module")
def plain_renderer(plain: RoadMap) -> Renderer:
    return Renderer(plain, nuscenes_rig(704, 396), Appearance(0, **DAY))


def actor(
    name: str, x: float, y: float, kind: ActorKind = ActorKind.CAR, yaw: float = 0.0, **values
) -> Actor:
    size = {
        ActorKind.CAR: (4.5, 1.8, 1.5),
        ActorKind.BUS: (11.0, 2.5, 3.1),
        ActorKind.TRUCK: (7.4, 2.4, 3.2),
    }.get(kind, (0.55, 0.65, 1.75))
    return Actor(
        id=name,
        kind=kind,
        x=x,
        y=y,
        yaw=yaw,
        speed=0.0,
        length=size[0],
        width=size[1],
        height=size[2],
        **values,
    )


def scene(*actors: Actor, signals: dict | None = None, ego: EgoPose | None = None) -> WorldState:
    return WorldState(
        time_s=1.0, ego=EgoPose(x=0.0, y=0.0, yaw=0.0, speed=0.0) if ego is None else ego, actors=actors,
        signals=signals or {},
    )  # fmt: skip


def corners_in_camera(state: WorldState, index: int, camera: CameraCalibration) -> np.ndarray:
    """The (8, 3) box corners; neighbours differ in one bit of their index."""
    box = boxes_in_base(state)[index]
    signs = np.array([[1 if i & 1 else -1, 1 if i & 2 else -1, 1 if i & 4 else -1] for i in range(8)])
    return se3.apply(se3.inverse(camera.base_from_camera) @ box.base_from_box, signs * box.size_lwh / 2)


def hull_of_box(corners: np.ndarray, camera: CameraCalibration) -> np.ndarray | None:
    """The convex hull (N, 1, 2) of a box in the image, cut just before the lens; None behind it."""
    points = list(corners[corners[:, 2] >= 0.2])
    for i, j in _EDGES:
        if (corners[i, 2] >= 0.2) != (corners[j, 2] >= 0.2):
            share = (0.2 - corners[i, 2]) / (corners[j, 2] - corners[i, 2])
            points.append(corners[i] + share * (corners[j] - corners[i]))
    if not points:
        return None
    seen = np.array(points)
    pixels = (seen / seen[:, 2:]) @ camera.intrinsics.T
    return cv2.convexHull(pixels[:, :2].astype(np.float32))


def pixels_outside_hulls(renderer: Renderer, states: list[WorldState]) -> tuple[int, int]:
    outside = total = 0
    for state in states:
        rendered = renderer.render(state)
        for name, camera in renderer.rig.items():
            mask = rendered.instance[name]
            assert mask.shape == (camera.height, camera.width) and mask.dtype == np.uint16
            for value in np.unique(mask[mask > 0]):
                hull = hull_of_box(corners_in_camera(state, int(value) - 1, camera), camera)
                assert hull is not None
                area = np.zeros(mask.shape, dtype=np.uint8)
                fixed = np.round(np.clip(hull, -20000, 20000) * 16).astype(np.int32)
                cv2.fillConvexPoly(area, fixed, 1, shift=4)
                area = cv2.dilate(area, np.ones((3, 3), np.uint8))
                own = mask == value
                total += int(own.sum())
                outside += int((own & (area == 0)).sum())
    return outside, total


def test_instance_masks_lie_in_the_projected_boxes(renderer: Renderer, states: list[WorldState]) -> None:
    outside, total = pixels_outside_hulls(renderer, states)
    assert total > 20_000
    assert outside <= 0.02 * total


def test_instance_masks_of_large_images_lie_in_the_projected_boxes(
    town: RoadMap, states: list[WorldState]
) -> None:
    large = Renderer(town, nuscenes_rig(1600, 900), Appearance(0, **DAY))
    outside, total = pixels_outside_hulls(large, states[:2])
    assert total > 20_000
    assert outside <= 0.02 * total


def box_overlaps(renderer: Renderer, states: list[WorldState]) -> list[tuple[float, str]]:
    """IoU of the mask's and the projected box's rectangle for free vehicles wholly in the image, over 20
    pixels."""
    found = []
    for state in states:
        rendered = renderer.render(state)
        for name, camera in renderer.rig.items():
            whole = renderer.whole_pixels(name, state)
            for index, other in enumerate(state.actors):
                corners = corners_in_camera(state, index, camera)
                if other.kind is ActorKind.PEDESTRIAN or corners[:, 2].min() < 0.5:
                    continue
                pixels = ((corners / corners[:, 2:]) @ camera.intrinsics.T)[:, :2]
                low, high = pixels.min(axis=0), pixels.max(axis=0)
                inside = (low >= 0).all() and (high <= (camera.width - 1, camera.height - 1)).all()
                if not inside or (high - low).min() <= 20.0:
                    continue
                rows, columns = np.nonzero(rendered.instance[name] == index + 1)
                if len(rows) < 0.97 * whole[index]:
                    continue
                mine = np.array(
                    [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
                )
                both = np.minimum(mine[2:], high) - np.maximum(mine[:2], low)
                union = np.prod(mine[2:] - mine[:2]) + np.prod(high - low) - np.prod(both)
                found.append((float(np.prod(both) / union), other.kind.name))
    return found


def test_vehicles_fill_their_two_dimensional_boxes(renderer: Renderer, states: list[WorldState]) -> None:
    overlaps = box_overlaps(renderer, states)
    assert len(overlaps) >= 16
    assert {"MOTORCYCLE", "BICYCLE"} & {kind for _, kind in overlaps}
    assert min(overlaps)[0] > 0.85


@pytest.mark.parametrize("size", VEHICLES.values(), ids=VEHICLES)
def test_every_kind_of_vehicle_fills_its_box_from_every_side(
    plain_renderer: Renderer, size: VehicleSize
) -> None:
    """Near (the box just fits the image) and far (about 20 pixels), ahead and behind, around the compass."""
    across = plain_renderer.rig["cam_back"].intrinsics[0, 0] * min(size.width, size.height) / 22.0
    overlaps = []
    for turn in range(16):
        yaw = math.radians(22.5 * turn + 4.0)
        reach = 0.5 * abs(size.length * math.cos(yaw)) + 0.5 * abs(size.width * math.sin(yaw))
        for x in (-across, -reach - 3.1, reach + 6.2):
            other = Actor(
                id="a", kind=size.kind, x=x, y=0.4, yaw=yaw, speed=0.3 * turn, length=size.length,
                width=size.width, height=size.height, colour_seed=turn,
            )  # fmt: skip
            overlaps += box_overlaps(plain_renderer, [scene(other)])
    assert len(overlaps) >= 24
    assert min(overlaps)[0] > 0.85


@pytest.mark.parametrize("kind", list(ActorKind))
def test_bodies_of_any_size_stay_in_their_boxes(kind: ActorKind) -> None:
    """Boxes of recorded scenes have sizes of their own."""
    usual = {ActorKind.PEDESTRIAN: (0.55, 0.65, 1.75)} | {
        size.kind: (size.length, size.width, size.height) for size in VEHICLES.values()
    }
    for scale in ((1.0, 1.0, 1.0), (0.85, 0.85, 0.85), (1.2, 0.85, 0.95), (0.9, 1.2, 1.1)):
        sides = np.array(usual[kind]) * scale
        for step in range(8):
            body = body_of(
                Actor(
                    id="a", kind=kind, x=0.25 * step, y=0.0, yaw=0.0, speed=float(step), length=sides[0],
                    width=sides[1], height=sides[2], colour_seed=step,
                )
            )  # fmt: skip
            for detailed in (False, True):
                for eye in ((9.0, 5.0), (9.0, -5.0), (-9.0, 5.0), (-9.0, -5.0)):
                    corners = body.faces(*eye, detailed).corners
                    low, high = corners.min(axis=0), corners.max(axis=0)
                    assert (np.abs([low[:2], high[:2]]) <= sides[:2] / 2 + 0.02).all()
                    assert low[2] >= -1e-9 and high[2] <= sides[2] + 0.02


def test_the_same_arguments_give_the_same_bytes(town: RoadMap, states: list[WorldState]) -> None:
    def render(seed: int, warm_up: WorldState | None) -> list[bytes]:
        renderer = Renderer(town, nuscenes_rig(352, 198), Appearance(seed, light="rain", noise=3.0))
        if warm_up is not None:  # another way to the same place must not matter
            renderer.render(warm_up)
        rendered = renderer.render(states[0])
        return [rendered.images[name].tobytes() + rendered.instance[name].tobytes() for name in renderer.rig]

    first = render(5, None)
    assert first == render(5, states[-1])
    assert first != render(6, None)


def test_noise_changes_with_time_but_not_the_mask(town: RoadMap, states: list[WorldState]) -> None:
    renderer = Renderer(town, nuscenes_rig(352, 198), Appearance(1, light="overcast", noise=4.0))
    first = renderer.render_camera("cam_front", states[0])
    later = renderer.render_camera("cam_front", replace(states[0], time_s=0.05))
    assert (first.rgb != later.rgb).mean() > 0.5
    assert np.array_equal(first.instance, later.instance)
    assert abs(first.rgb.mean() - later.rgb.mean()) < 0.5


@pytest.mark.parametrize("light", LIGHTS)
def test_every_light_gives_its_own_picture(plain: RoadMap, light: str) -> None:
    image = Renderer(plain, nuscenes_rig(352, 198), Appearance(2, light=light, noise=0.0)).render_camera(
        "cam_front", scene()
    )
    sky, road = image.rgb[5].mean(axis=0), image.rgb[-10:, 150:200].mean(axis=(0, 1))
    assert image.rgb.std() > 10.0
    assert sky.sum() > road.sum()


def test_a_near_vehicle_hides_a_far_one_and_not_the_other_way_round(plain_renderer: Renderer) -> None:
    far, near = actor("far", 25.0, 0.0), actor("near", 12.0, 0.0, ActorKind.TRUCK)
    for actors in ((far, near), (near, far)):
        mask = plain_renderer.render_camera("cam_front", scene(*actors)).instance
        seen = {other.id: int((mask == i + 1).sum()) for i, other in enumerate(actors)}
        assert seen["near"] > 1000 and seen["far"] == 0


def test_a_pedestrian_beside_the_middle_of_a_long_bus_is_seen(plain_renderer: Renderer) -> None:
    # By the distance of their centres the bus would be drawn last and hide the pedestrian.
    bus, person = actor("bus", 10.0, 3.6, ActorKind.BUS), actor("person", 12.2, 1.8, ActorKind.PEDESTRIAN)
    mask = plain_renderer.render_camera("cam_front", scene(person, bus)).instance
    alone = plain_renderer.render_camera("cam_front", scene(person)).instance
    assert (mask == 1).sum() == (alone == 1).sum() > 100


def test_a_building_hides_what_stands_behind_it(plain: RoadMap) -> None:
    house = Building(
        footprint=np.array([[15.0, -4], [25.0, -4], [25.0, 4], [15.0, 4]]), height=6.0, colour_seed=1
    )
    renderer = Renderer(replace(plain, buildings=(house,)), nuscenes_rig(352, 198), Appearance(0, **DAY))
    mask = renderer.render_camera(
        "cam_front", scene(actor("behind", 30.0, 0.0), actor("before", 10.0, 0.0))
    ).instance
    assert set(np.unique(mask)) == {0, 2}


def test_lit_lamps_change_the_vehicle_and_nothing_else(plain_renderer: Renderer) -> None:
    def render(lights: Lights) -> tuple[np.ndarray, np.ndarray]:
        image = plain_renderer.render_camera("cam_front", scene(actor("a", 14.0, 0.0, lights=lights)))
        return image.rgb.astype(int), image.instance

    dark, mask = render(Lights.NONE)
    own = cv2.dilate((mask == 1).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    columns = np.nonzero(mask == 1)[1]
    middle = 0.5 * (columns.min() + columns.max())
    for lights in (Lights.BRAKE, Lights.LEFT, Lights.RIGHT):
        changed = np.abs(render(lights)[0] - dark).max(axis=2) > 40
        assert changed.sum() >= 20
        assert not changed[~own].any()
        share_left = (np.nonzero(changed)[1] < middle).mean()
        if lights is Lights.BRAKE:
            assert render(lights)[0][changed][:, 0].mean() > dark[changed][:, 0].mean() + 50
            assert 0.3 < share_left < 0.7
        else:  # seen from behind the left indicator is on the left
            assert share_left == (1.0 if lights is Lights.LEFT else 0.0)


def test_the_relevant_lamp_is_seen_in_the_network_input() -> None:
    """>= 3 x 3 pixels of a 256x128 input for >= 95 % of the places between 40 m and the stop line, each
    colour its own."""
    rig = CameraRig([nuscenes_rig()["cam_front"]])
    network_input = ImageInput(ImageInputSpec(width=256, height=128, crop="top"))
    colours = list(SignalColour)
    seen, wrong_colour = [], 0
    for name in network_names("dev")[:2]:
        road_map = load_road_map(name)
        renderer = Renderer(road_map, rig, Appearance(1, **DAY))
        for number, head in enumerate(road_map.signal_heads):
            lane = road_map.lanes[head.lane]
            distance = 4.0 + 36.0 * (number % 7) / 6.0
            ego = ego_on_lane(lane, length_of_line(lane.centre_line) - distance)
            images = {}
            for colour in colours:
                others = {
                    (other.signal, link): SignalColour.OFF
                    for other in road_map.signal_heads
                    for link in other.links
                }
                signals = others | {(head.signal, link): colour for link in head.links}
                image = renderer.render_camera("cam_front", scene(signals=signals, ego=ego)).rgb
                images[colour] = network_input.prepare(image).pixels.astype(int)
            for colour in colours[:3]:
                change = images[colour] - images[SignalColour.OFF]
                rows, columns = np.nonzero(np.abs(change).max(axis=2) >= 30)
                large = len(rows) >= 9 and np.ptp(rows) >= 2 and np.ptp(columns) >= 2
                seen.append(large)
                if large:
                    red, green = change[rows, columns, 0].mean(), change[rows, columns, 1].mean()
                    expected = {SignalColour.RED: red > 3 * green, SignalColour.GREEN: green > 3 * red}
                    wrong_colour += not expected.get(colour, 0.4 < green / red < 1.5)
    assert len(seen) >= 30
    assert np.mean(seen) >= 0.95
    assert wrong_colour == 0


def test_the_ground_is_painted_where_the_drivable_raster_says(
    renderer: Renderer, states: list[WorldState]
) -> None:
    raster = drivable_raster(renderer.road_map)
    bare = replace(renderer.road_map, buildings=(), trees=(), signal_heads=(), stop_lines=())
    bare_renderer = Renderer(bare, renderer.rig, Appearance(0, **DAY), ground=map_ground(renderer.road_map))
    right = total = 0
    for state in states[:4]:
        rendered = bare_renderer.render(replace(state, actors=()))
        pose = map_from_base(state.ego)
        for name, camera in renderer.rig.items():
            grid = np.stack(
                np.meshgrid(np.arange(4.0, 18.0, 0.5), np.arange(-9.0, 9.0, 0.5)), axis=-1
            ).reshape(-1, 2)
            yaw = camera.yaw()
            turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
            places = np.column_stack([grid @ turn.T, np.zeros(len(grid))])
            pixels, depth = camera.project(places)
            shown = camera.visible(pixels, depth) & (depth < 20)
            points = se3.apply(pose, places)[shown, :2]
            # Away from borders, where one pixel shows both.
            around = np.stack(
                [raster.contains(points + step) for step in ((0.4, 0), (-0.4, 0), (0, 0.4), (0, -0.4))]
            )
            clear = around.all(axis=0) | ~around.any(axis=0)
            column, row = np.round(pixels[shown][clear]).astype(int).T
            colour = rendered.images[name][row, column].astype(int)
            grey = np.ptp(colour, axis=1) < 14
            dark = colour.sum(axis=1) < 330
            asphalt = (grey & dark) | (colour.min(axis=1) > 165)  # or white paint
            green = colour[:, 1] > colour[:, 2] + 25
            known = asphalt | green
            total += int(known.sum())
            right += int((asphalt == raster.contains(points[clear]))[known].sum())
    assert total > 2000
    assert right >= 0.98 * total


def test_a_tilted_pose_moves_the_horizon_and_keeps_masks_in_their_boxes(plain_renderer: Renderer) -> None:
    state = scene(actor("a", 15.0, 0.0))
    pitched = np.eye(4)
    pitched[:3, :3] = se3.exp_rotation(np.array([0.02, -0.05, 0.0]))
    level = plain_renderer.render_camera("cam_front", state)
    tilted = plain_renderer.render_camera("cam_front", state, pitched)
    rows = [np.nonzero(image.instance == 1)[0].mean() for image in (level, tilted)]
    focal = plain_renderer.rig["cam_front"].intrinsics[1, 1]
    assert rows[1] - rows[0] == pytest.approx(0.05 * focal, rel=0.15)
    assert np.array_equal(level.rgb, plain_renderer.render_camera("cam_front", state, np.eye(4)).rgb)


@pytest.mark.parametrize("size", [(352, 198), (1600, 900)])
def test_any_rig_can_be_rendered(plain: RoadMap, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    state = scene(*(actor(f"a{i}", 14 * math.cos(i), 14 * math.sin(i), yaw=float(i)) for i in range(6)))
    for rig in (bench2drive_rig(*size), perturbed(nuscenes_rig(*size), rng)):
        renderer = Renderer(plain, rig, Appearance(0, **DAY))
        rendered = renderer.render(state)
        assert list(rendered.images) == list(rig)
        outside, total = pixels_outside_hulls(renderer, [state])
        assert total > 500 and outside <= 0.02 * total


def test_each_camera_shows_its_own_state(plain_renderer: Renderer) -> None:
    early, late = scene(actor("a", 15.0, 0.0)), scene(actor("b", 40.0, 3.0), actor("a", 9.0, 0.0))
    states = {name: early for name in plain_renderer.rig} | {"cam_front": late}
    rendered = plain_renderer.render(states)
    assert rendered.actor_ids["cam_front"] == ("b", "a")
    assert rendered.actor_ids["cam_back"] == ("a",)
    assert np.array_equal(rendered.images["cam_front"], plain_renderer.render_camera("cam_front", late).rgb)
    with pytest.raises(KeyError):
        plain_renderer.render({"cam_front": late})


def test_more_actors_than_a_byte_can_number_keep_their_identity(plain_renderer: Renderer) -> None:
    crowd = tuple(
        actor(f"p{i}", 6.0 + 1.2 * (i // 20), 0.9 * (i % 20) - 8.5, ActorKind.PEDESTRIAN) for i in range(400)
    )
    mask = plain_renderer.render_camera("cam_front", scene(*crowd)).instance
    assert mask.max() > 255
    assert len(np.unique(mask)) > 60
    outside, total = pixels_outside_hulls(plain_renderer, [scene(*crowd)])
    assert outside <= 0.02 * total


def test_nothing_and_an_actor_around_the_camera_are_drawn_without_harm(plain_renderer: Renderer) -> None:
    assert not any(mask.any() for mask in plain_renderer.render(scene()).instance.values())
    around = plain_renderer.render(scene(actor("around", 1.0, 0.0, ActorKind.BUS)))
    assert all(image.shape == (396, 704, 3) for image in around.images.values())


def test_a_footprint_that_is_not_convex_is_refused(plain: RoadMap) -> None:
    dented = Building(
        footprint=np.array([[0, 10], [8, 10], [2, 12], [0, 18]], dtype=float), height=5.0, colour_seed=1
    )
    with pytest.raises(ValueError, match="convex"):
        Renderer(replace(plain, buildings=(dented,)), nuscenes_rig(352, 198), Appearance(0))


def test_a_ground_from_a_mask_alone_shows_the_road(plain: RoadMap) -> None:
    raster = drivable_raster(plain)
    ground = mask_ground(raster.contains, (-160.0, -60.0, 160.0, 60.0))
    empty = RoadMap(name="no map", lanes={}, connections=(), junction_areas={})
    renderer = Renderer(empty, nuscenes_rig(352, 198), Appearance(0, **DAY), ground=ground)
    image = renderer.render_camera("cam_front", scene()).rgb.astype(int)
    road, beside = image[-15, 176].sum(), image[-60, 20].sum()
    assert beside > road + 60


def test_the_ground_of_a_map_is_painted_once(town: RoadMap) -> None:
    assert map_ground(town) is map_ground(town)


def test_cutting_at_a_depth_keeps_what_lies_beyond() -> None:
    square = np.array([[0.0, 0, 1], [1, 0, 1], [1, 0, 3], [0, 0, 3]])
    cut = clip_at_depth(square, 2.0)
    assert cut[:, 2].min() == 2.0 and cut[:, 2].max() == 3.0 and len(cut) == 4
    assert len(clip_at_depth(square, 5.0)) == 0
