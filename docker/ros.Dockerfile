# The planner on a stock ROS 2 Jazzy, built with colcon as on a vehicle.
#   docker build -f docker/ros.Dockerfile -t wpt-ros .
# TORCH_INDEX: as in pip.Dockerfile; empty takes the CUDA build (run with --gpus all), PyTorch's CPU index
# the small one.
FROM ros:jazzy-ros-base
ARG TORCH_INDEX=""
SHELL ["/bin/bash", "-c"]

WORKDIR /wpt
COPY . .

# rosdep brings all ROS and Debian packages; RViz is left to a desktop.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv python3-pip \
    && rosdep update --rosdistro jazzy \
    && rosdep install --from-paths ros2_ws/src --ignore-src --rosdistro jazzy -y --skip-keys rviz2 \
    && rm -rf /var/lib/apt/lists/*

# torch lives in a virtual environment that sees the distribution; colcon is started by its Python, so that
# the installed programs name that Python too.
RUN python3 -m venv --system-site-packages /opt/wpt \
    && PIP_NO_CACHE_DIR=1 PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" \
       /opt/wpt/bin/pip install -r requirements/stock_ros.txt

RUN source /opt/ros/jazzy/setup.bash && source /opt/wpt/bin/activate \
    && cd ros2_ws && python3 -m colcon build --cmake-args -DBUILD_TESTING=OFF

ENV FASTRTPS_DEFAULT_PROFILES_FILE=/wpt/ros2_ws/src/wpt_planner/dds/fastdds_profile.xml
ENTRYPOINT ["/bin/bash", "-c", "source /wpt/ros2_ws/install/setup.bash && exec \"$@\"", "wpt"]
CMD ["ros2", "launch", "wpt_planner", "planner.launch.py"]
