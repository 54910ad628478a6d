# milan_mm with all that it needs; docs/install.md has the commands. Compiles mmcv for CPUs, unless
# PIP_FIND_LINKS names the page of its prebuilt wheels for GPUs (they bring no CUDA libraries: torch does).
FROM python:3.12-slim-bookworm

# A compiler for mmcv; the two libraries are what OpenCV's headless build loads.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make libglib2.0-0 libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /milan_mm
ENV PATH=/milan_mm/.venv/bin:$PATH PIP_NO_CACHE_DIR=1

ARG PIP_FIND_LINKS=
COPY . .
RUN make doctor PYTHON=python3.12
CMD ["milan-mm", "--help"]
