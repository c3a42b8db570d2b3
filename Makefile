# Everything runs from .venv, which `make` builds when it is missing. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
DOCS := $(VENV)/.docs
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
READY := $(VENV)/.ready
LINTERS := $(VENV)/.linters
# What `make gpu` brings along; torch, OpenCV, pytest and hypothesis are there.
GPU_KIT_PURE := lvis|fvcore|iopath|yacs|omegaconf|hydra-core|termcolor
GPU_KIT_BINARY := pycocotools|hotcoco|msgspec
PINNED = $$(grep -hoE '^($(1))==[^ ;]+' requirements.txt constraints.txt)
DEMO := output/demo
# Another Detectron2 than the registry's rebuild: a pip requirement, such as a local path.
DETECTRON2 ?=
SITE := import sysconfig; print(sysconfig.get_path('purelib'))

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench faults matrix gpu-kit gpu clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(READY)  ## train softmax and IIF on mini_lvis, compare them in a table and on a page of pictures; ARGS=-v shows all logs
	@$(PY) -W ignore -m iif_d2 demo --train --output $(DEMO) $(ARGS)

test: $(READY)  ## all tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

lint: $(LINTERS)  ## style, layers of imports and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/mypy

.PHONY: docs
docs: $(DOCS)  ## the documentation site, in output/docs
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(PY) -W ignore -m mkdocs build --strict
	@echo "output/docs/index.html; its search needs: $(PY) -m http.server -d output/docs"

bench: $(READY)  ## each fast path timed beside Detectron2's and lvis-api's own code
	$(PY) -W ignore projects/speed/bench.py

faults: $(READY)  ## kill, starve and soak it for two hours; figures of what was lost
	OMP_NUM_THREADS=1 $(PY) -W ignore -m tests.stress

matrix:  ## install and test with other Pythons and versions of torch: hours, 7 GB at a time
	$(PYTHON) -m pip install -q --upgrade --target build/nox -c constraints.txt nox
	PYTHONPATH=build/nox $(PYTHON) -m nox -f projects/compatibility/noxfile.py

gpu-kit:  ## what `make gpu` needs on a machine without a registry (GPU_CIFAR=zip), in build/gpu-kit
	$(PYTHON) -m pip wheel -q -w build/gpu-kit --no-deps $(call PINNED,$(GPU_KIT_PURE)) antlr4-python3-runtime==4.9.3
	$(PYTHON) -m pip download -q -d build/gpu-kit --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
	  $(addprefix --platform manylinux,_2_28_x86_64 _2_27_x86_64 _2_17_x86_64 2014_x86_64 1_x86_64) $(call PINNED,$(GPU_KIT_BINARY))
	$(PYTHON) -m pip download -q -d build/gpu-kit --no-deps --only-binary=:all: --python-version 3.10 --implementation cp \
	  --platform linux_x86_64 $(call PINNED,sal-detectron2)
	$(if $(GPU_CIFAR),cp $(GPU_CIFAR) build/gpu-kit/cifar100_lt.zip)
	@du -sh build/gpu-kit

gpu: GPU_CIFAR ?= $(wildcard build/gpu-kit/cifar100_lt.zip)
gpu:  ## on a GPU: exactness, half precision, speed, CIFAR100-LT (GPU_CIFAR=folder or zip), in 9 minutes
	for wheel in build/gpu-kit/*.whl; do python3 -m zipfile -e $$wheel build/gpu-site; done
	PYTHONPATH=build/gpu-site python3 projects/gpu/run.py $(if $(GPU_CIFAR),--cifar $(GPU_CIFAR))

clean:  ## remove what make and the runs made
	rm -rf $(VENV) output build dist *.egg-info .*_cache .hypothesis

# With a Detectron2 in $(PYTHON) already, its packages stay as they are; else the pinned set.
$(READY): requirements.txt constraints.txt setup.cfg
	@if [ -z "$(DETECTRON2)" ] && $(PYTHON) -c "import detectron2, torchvision" 2>/dev/null; then \
	  echo "using the Detectron2 that $(PYTHON) has" && \
	  $(PYTHON) -m venv $(VENV) && \
	  $(PYTHON) -c "$(SITE)" > "$$($(PY) -c "$(SITE)")/parent.pth" && \
	  $(PYTHON) -m pip freeze | grep == > $(VENV)/constraints.txt && \
	  $(PIP) install -q -c $(VENV)/constraints.txt -e ".[test,classification]"; \
	else \
	  ($(PYTHON) -m venv $(VENV) || \
	    ($(PYTHON) -m pip install -q --target build/virtualenv virtualenv && \
	     PYTHONPATH=build/virtualenv $(PYTHON) -m virtualenv -q $(VENV))) && \
	  echo "installing torch and the rest: a minute or more, 6 GB" && \
	  $(PIP) install -q -r requirements.txt && \
	  $(PIP) install -q --no-deps -c constraints.txt lvis && \
	  if [ -n "$(DETECTRON2)" ]; then $(PIP) install -q --no-build-isolation "$(DETECTRON2)"; \
	  else $(PIP) install -q --no-deps --only-binary=:all: --python-version 3.10 \
	    --implementation cp --platform linux_x86_64 \
	    --target "$$($(PY) -c "$(SITE)")" \
	    -c constraints.txt sal-detectron2; fi && \
	  $(PIP) install -q --no-deps -e .; \
	fi
	@touch $@

$(LINTERS): $(READY) constraints.txt
	$(PIP) install -q -c constraints.txt import-linter mypy ruff
	@touch $@

$(DOCS): $(READY) constraints.txt
	$(PIP) install -q -c constraints.txt mkdocs-material "mkdocstrings[python]"
	@touch $@
