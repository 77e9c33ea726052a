"""ROS-free access to scenes in the nuScenes format: tables, frames, truth, writing, open-loop metrics."""
