# One command each; `.venv` is built on first use and kept. Needs Python 3.11 or 3.12 and, unless
# PIP_FIND_LINKS names a page with a wheel of mmcv, a C++ compiler.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(shell \
    $(p) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $(p))))
# Another set of versions that was run, e.g. CONSTRAINTS=constraints-torch-2.12.txt, has a .venv of its own.
CONSTRAINTS ?= constraints.txt
VENV := .venv$(patsubst constraints%.txt,%,$(CONSTRAINTS))
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -q
INSTALL := $(PIP) install -c $(CONSTRAINTS)
DOCTOR := $(PY) -m milan_mm.doctor
# pip would take a wheel of mmcv from its cache that was compiled for another torch.
CACHE := $(if $(filter constraints.txt,$(CONSTRAINTS)),,--no-cache-dir)
# One process per core; nproc would count the threads of OMP_NUM_THREADS instead.
JOBS ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
export MAX_JOBS ?= $(JOBS)

.PHONY: help demo test soak overfit promises lint format docs doctor clean distclean

help:  ## print this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' \
	    | while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.installed  ## pretrain, transfer and write work_dirs/demo/report.html (10 to 20 minutes on 2 cores)
	$(PY) tools/demo.py

test: $(VENV)/.installed  ## run the tests on all cores (JOBS=1: on one; ARGS=--random-order: shuffled)
	$(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

overfit: $(VENV)/.installed  ## learn a few images by heart in each task (an hour or more on 2 cores)
	$(PY) -m pytest -m overfit

soak: $(VENV)/.installed  ## kill trainings, fill their disk and damage their files for 30 minutes (ARGS='--minutes 5': shorter)
	$(PY) -m benchmarks.reliability.soak $(ARGS)

promises: $(VENV)/.installed  ## print what the tests promise, one sentence each
	@$(PY) -m pytest --collect-only | sed -nE 's/^(tests[^:]*)::([^[]*).*/\1 \2/p' | uniq \
	    | awk '$$1 != file { file = $$1; print "\n" file } \
	        { sub(/^test_/, "", $$2); gsub(/_/, " ", $$2); print "  " $$2 }'

lint: $(VENV)/.installed  ## ruff (rules and format) and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy milan_mm tools benchmarks

format: $(VENV)/.installed  ## let ruff rewrite what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: $(VENV)/.installed  ## build the documentation as a site, in site/
	$(PY) -m mkdocs build --strict

doctor: $(VENV)/.installed  ## check the installation again
	@$(DOCTOR)

clean:  ## remove caches, builds and work_dirs/demo; keep data and .venv
	rm -rf build dist site work_dirs/demo .pytest_cache .mypy_cache .ruff_cache
	find . -name .venv -prune -o -name .git -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## clean, and remove every .venv too
	rm -rf .venv .venv-*

# The stamp is written last, so an interrupted install is taken up again and a finished one is never
# repeated. --no-build-isolation: the OpenMMLab packages import torch in their setup.py.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 found: install one, or name it: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@test -n "$$PIP_FIND_LINKS" || command -v $${CXX:-c++} >/dev/null \
	    || { echo "No C++ compiler found, mmcv needs one: install g++ (or set CXX)"; exit 1; }
	@$(PY) -c 'import sys, pip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	    || $(PYTHON) -m venv --clear $(VENV)
	@echo "1/4 torch (about 3 GB, some minutes)"
	@$(INSTALL) setuptools wheel ninja psutil hatchling editables torch torchvision numpy
	@echo "2/4 mmcv (compiled for this machine: 10 to 25 minutes on 2 cores, silent)"
	@$(INSTALL) $(CACHE) --no-build-isolation onedl-mmcv
	@echo "3/4 mmpretrain, mmdetection, mmsegmentation, open_clip, this package"
	@$(INSTALL) --no-build-isolation -e '.[openmmlab,fast,dev]'
# For tests in processes of their own: mmpretrain cannot be imported beside this transformers.
	@$(INSTALL) --no-deps --upgrade --target $(VENV)/judges transformers tokenizers typer shellingham annotated-doc
# mmcv, mmseg and imagecorruptions ask for opencv-python, imaug and we for the headless build: both
# write the same cv2 folder. The headless one stays, since it needs no display libraries. `pip check`
# then reports opencv-python as missing; that is this line, and harmless. Removing one build takes the
# shared files along, hence the reinstall.
	@if $(PIP) show opencv-python >/dev/null 2>&1; then $(PIP) uninstall -y opencv-python \
	    && $(INSTALL) --no-deps --force-reinstall opencv-python-headless; fi
	@echo "4/4 self-check"
	@$(DOCTOR)
	@touch $@
