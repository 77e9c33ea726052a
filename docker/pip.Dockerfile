# The demo and the tests without ROS: the environment of `make env` on Python 3.12.
#   docker build -f docker/pip.Dockerfile -t wpt .
# TORCH_INDEX: a further package index for torch. Empty takes the default build, which brings CUDA;
# give the address that PyTorch's installation page prints for CPU to get the small one.
FROM python:3.12-slim-bookworm
ARG TORCH_INDEX=""

RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ gcc make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /wpt
# Wheels first: a changed source file does not fetch them again.
COPY Makefile ./
COPY requirements requirements
COPY tools tools
RUN PIP_NO_CACHE_DIR=1 PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" make env

COPY . .
RUN make env

CMD ["make", "demo"]
