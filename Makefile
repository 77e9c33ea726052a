# Two commands matter: `make demo` and `make test`. Both set up everything they need (tools/setup_env.py).

PYTHON ?= python3
VENV ?= .venv
# Further arguments for pytest, for example ARGS="-m 'not slow' ros2_ws/src/wpt_policy".
ARGS ?=

override VENV := $(abspath $(VENV))
PROFILE := $(CURDIR)/ros2_ws/src/wpt_planner/dds/fastdds_profile.xml

# A sourced ROS distribution must not lend its modules to the environment's Python: it is left aside here
# (its own way is colcon: README). The wheels bring one middleware, and init ends where another is asked for.
unexport RMW_IMPLEMENTATION
ifneq ($(filter /opt/ros/%,$(subst :, ,$(AMENT_PREFIX_PATH))),)
unexport PYTHONPATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH
override AMENT_PREFIX_PATH :=
endif
export WPT_VENV := $(VENV)
export AMENT_PREFIX_PATH := $(VENV)$(addprefix :,$(filter-out $(VENV),$(AMENT_PREFIX_PATH)))
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
# Fast DDS 2 (Jazzy) reads the first name, Fast DDS 3 the second.
export FASTRTPS_DEFAULT_PROFILES_FILE ?= $(PROFILE)
export FASTDDS_DEFAULT_PROFILES_FILE ?= $(PROFILE)
# rclpy.init ends with an error where it finds no place for its logs.
ifeq ($(HOME),)
export HOME := $(VENV)
endif

.PHONY: help env demo test lint clean clean-env

help:
	@echo "make demo    replay a scene through the planner node: out/demo/report.json and overview.png"
	@echo "             DATA=folder VERSION=v1.0-mini SCENE=scene-0061 PLANNER=name choose what is driven"
	@echo "make test    all tests: unit, property, node and colcon tests; ARGS=... goes to pytest"
	@echo "make env     only the environment (.venv; PYTHON=python3.12 or VENV=folder choose another)"
	@echo "make lint    ruff"
	@echo "make clean   remove out/ and caches; make clean-env removes the environment too"

env:
	@$(PYTHON) tools/setup_env.py

demo: env
	$(VENV)/bin/wpt-replay demo --out out/demo $(if $(DATA),--data $(DATA)) $(if $(VERSION),--version $(VERSION)) \
		$(if $(SCENE),--scene $(SCENE)) $(if $(PLANNER),--planner $(PLANNER))

test: env
	$(VENV)/bin/python -m pytest $(ARGS)

lint: env
	$(VENV)/bin/ruff check .

clean:
	rm -rf out .pytest_cache .ruff_cache .hypothesis
	find . -path ./.git -prune -o -path ./.venv -prune -o \
		\( -name __pycache__ -o -name '*.egg-info' \) -type d -prune -exec rm -rf {} +

clean-env: clean
	$(PYTHON) tools/setup_env.py --remove
