# Everything from a bare checkout: Python 3.11 (or 3.12, 3.13), make and a C compiler are enough.
#   make test                                    set up, run the tests
#   make reproduce-table2                        set up, the whole method on the embedded miniature
#   make reproduce-table2 SEEDS=3                with three seeds
#   make reproduce-table2 SCANNET=/data/scannet  the same on ScanNet

PYTHON ?= $(firstword $(foreach v,python3.11 python3.12 python3.13 python3,$(shell command -v $(v))))
VENV ?= .venv
WORK ?= work
RESULTS ?= results
SCENES ?= 80
SEED ?= 1
SEEDS ?= 1
HICL := $(VENV)/bin/hicl
INSTALLED := $(VENV)/.installed

ifdef SCANNET
CACHE := $(WORK)/scannet-cache
PRESET := scannet
JOBS ?= 1
else
CACHE := $(WORK)/miniature-cache
PRESET := miniature
JOBS ?= 3
endif

.PHONY: setup test lint benchmark teacher cache reproduce-table2 clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]"
	@touch $@

test: setup
	$(VENV)/bin/python -m pytest

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Scans to cache; what is up to date is left alone, so a broken-off run goes on where it was.
cache: setup
ifdef SCANNET
	$(HICL) preprocess scannet --root $(SCANNET) --out $(CACHE) --split train
	$(HICL) preprocess scannet --root $(SCANNET) --out $(CACHE) --split val
else
	$(HICL) miniature --scenes $(SCENES) --seed $(SEED) --out $(WORK)/miniature
	$(HICL) preprocess miniature --root $(WORK)/miniature --out $(CACHE)
endif

reproduce-table2: cache
	$(HICL) report labels --cache $(CACHE) --split val --json $(RESULTS)/labels.json --picture $(RESULTS)/labels.png
	$(HICL) table2 --cache $(CACHE) --out $(RESULTS) --preset $(PRESET) --seeds $(SEEDS) --jobs $(JOBS)

benchmark: setup
	$(VENV)/bin/python tests/benchmarks/bench_stages.py
	$(VENV)/bin/python tests/benchmarks/bench_bytes.py
	$(VENV)/bin/python tests/benchmarks/bench_teacher.py
	$(VENV)/bin/python tests/benchmarks/bench_train.py
	$(VENV)/bin/python tests/benchmarks/bench_predict.py
	$(VENV)/bin/python tests/benchmarks/bench_scale.py

# Train the miniature's teacher anew, from crops and captions of other rooms.
teacher: setup
	$(VENV)/bin/python -m hicl.pipeline.miniature.train_teacher --out pipeline/miniature/teacher

clean:
	rm -rf $(WORK) $(RESULTS)
