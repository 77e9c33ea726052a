"""ROS-free runtime of the suite: camera geometry, image input, policy bundle, student network, runner, plan."""
