"""ROS-free access to scenes in the nuScenes format: tables, frames, truth, drivable area, writing, open-loop metrics."""
