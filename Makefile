# Everything from a bare checkout: Python 3.11 (or 3.12, 3.13), make and a C compiler are enough.
#   make test                                    set up, run the tests
#   make lint                                    set up, run the linter and the type checker
#   make docs                                    set up, make the API's pages in work/docs
#   make reproduce-table2                        set up, the whole method on the embedded miniature
#   make reproduce-table2 SEEDS=3                with three seeds
#   make reproduce-table2 SCANNET=/data/scannet  the same on ScanNet
#   make reproduce-table2 DATA=street            the same on procedural streets, in nuScenes' own layout
#   make reproduce-table2 NUSCENES=/data/nuscenes  on nuScenes
#   make reproduce-table1                        the same for the methods that HICL is compared with
#   make reproduce-table1 SCANNET=… MASKS=/data/sam  with a segmenter's masks, for Chen et al.
#   make reproduce-table2 SCENES=8 EPOCHS=2      in little, to see that it runs
#   make … PYTHON=/path/to/python3.12            with that Python; UV=uv: installed by uv, which reads no pip settings
#   make … TORCH_INDEX=URL                       PyTorch from that index, such as one with its CPU wheels
#   make lock, make upgrade-check                what is installed, chosen anew; whether the newest would do

# The first that runs: a name on the path may be another version's shim.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && \
	echo $$python && break; done)
VENV ?= .venv
WORK ?= work
RESULTS ?= results
SCENES ?= 80
STREETS ?= $(if $(filter file,$(origin SCENES)),24,$(SCENES))
SEED ?= 1
SEEDS ?= 1
EPOCHS ?=
HICL := $(VENV)/bin/hicl
INSTALL = @PYTHON="$(PYTHON)" UV="$(UV)" TORCH_INDEX="$(TORCH_INDEX)" sh setup/install.sh

ifdef SCANNET
CACHE := $(WORK)/scannet-cache
KEPT := $(if $(MASKS),--masks-dir $(MASKS) --masks kept)
IMAGES := $(SCANNET)
PRESET := scannet
JOBS ?= 1
else ifdef NUSCENES
CACHE := $(WORK)/nuscenes-cache
PRESET := nuscenes
JOBS ?= 1
else ifeq ($(DATA),street)
CACHE := $(WORK)/street-cache
PRESET := street
JOBS ?= 2
else
CACHE := $(WORK)/miniature-cache
IMAGES := $(WORK)/miniature
PRESET := miniature
JOBS ?= 3
endif

.NOTPARALLEL:
.PHONY: setup setup-test test lint docs lock upgrade-check benchmark teacher cache reproduce-table1 reproduce-table2 clean

setup:
	$(INSTALL) $(VENV) viz

setup-test:
	$(INSTALL) $(VENV) test

# Two processes, a file's tests in one of them; of one thread each, or those of both would wait for each other.
test: setup-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

# The type checker knows no package whose rooms stand elsewhere: it gets them by links, where they are imported from.
TYPES := $(WORK)/types/hicl
lint: setup-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	rm -rf $(TYPES) && mkdir -p $(TYPES) && ln -s $(CURDIR)/hicl/* $(CURDIR)/cache $(CURDIR)/pipeline $(CURDIR)/train $(TYPES)/
	$(VENV)/bin/python -m mypy

# The API's pages into work/docs, and docs/settings.md.
docs: setup-test
	$(VENV)/bin/python docs/build.py $(WORK)/docs

# Scans to cache; what is up to date is left alone, so a broken-off run goes on where it was.
cache: setup
ifdef SCANNET
	$(HICL) preprocess scannet --root $(SCANNET) --out $(CACHE) --split train $(KEPT)
	$(HICL) preprocess scannet --root $(SCANNET) --out $(CACHE) --split val $(KEPT)
else ifdef NUSCENES
	$(HICL) preprocess nuscenes --root $(NUSCENES) --out $(CACHE)
else ifeq ($(DATA),street)
	$(HICL) miniature --kind street --scenes $(STREETS) --seed $(SEED) --out $(WORK)/street
	$(HICL) preprocess nuscenes --root $(WORK)/street --out $(CACHE)
else
	$(HICL) miniature --scenes $(SCENES) --seed $(SEED) --out $(WORK)/miniature
	$(HICL) masks miniature --root $(WORK)/miniature --out $(WORK)/masks
	$(HICL) preprocess miniature --root $(WORK)/miniature --out $(CACHE) --masks-dir $(WORK)/masks --masks kept
endif

reproduce-table2: cache
	$(HICL) report labels --cache $(CACHE) --split val --json $(RESULTS)/labels.json --picture $(RESULTS)/labels.png
	$(HICL) table2 --cache $(CACHE) --out $(RESULTS) --preset $(PRESET) --seeds $(SEEDS) --jobs $(JOBS) \
		$(if $(EPOCHS),--epochs $(EPOCHS))

reproduce-table1: cache
ifdef IMAGES
	$(HICL) student --root $(IMAGES) --cache $(CACHE) --out $(WORK)/student
endif
	$(HICL) table1 --cache $(CACHE) --out $(RESULTS) --preset $(PRESET) --seeds $(SEEDS) --jobs $(JOBS) \
		$(if $(IMAGES),--student $(WORK)/student) $(if $(EPOCHS),--epochs $(EPOCHS))

benchmark: setup-test
	$(VENV)/bin/python tests/benchmarks/bench_stages.py
	$(VENV)/bin/python tests/benchmarks/bench_bytes.py
	$(VENV)/bin/python tests/benchmarks/bench_teacher.py
	$(VENV)/bin/python tests/benchmarks/bench_train.py
	$(VENV)/bin/python tests/benchmarks/bench_predict.py
	$(VENV)/bin/python tests/benchmarks/bench_scale.py

# Train the miniature's teachers anew, from crops and captions of other rooms and other streets.
teacher: setup
	$(VENV)/bin/python -m hicl.pipeline.miniature.train_teacher rooms --out pipeline/miniature/teacher
	$(VENV)/bin/python -m hicl.pipeline.miniature.train_teacher streets --out pipeline/miniature/teacher

# The version of everything that is installed, for each Python and system, into setup/lock.txt. What pyproject.toml still
# allows stays as it is there; `make lock UPGRADE=1` takes the newest of all.
LOCK ?= setup/lock.txt
lock: $(WORK)/uv/bin/uv
	$< pip compile --quiet --universal --python-version 3.11 --only-binary :all: --all-extras --no-annotate \
		--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) --output-file $(LOCK) pyproject.toml

$(WORK)/uv/bin/uv:
	$(PYTHON) -m venv $(WORK)/uv
	$(WORK)/uv/bin/python -m pip install --quiet uv==0.13.9

# What the newest versions that pyproject.toml allows would break: an environment of its own, and its tests.
NEWEST := $(WORK)/newest
upgrade-check: $(WORK)/uv/bin/uv
	rm -rf $(NEWEST) && mkdir -p $(NEWEST)
	$(MAKE) --no-print-directory lock LOCK=$(NEWEST)/lock.txt
	@PYTHON="$(PYTHON)" UV="$<" sh setup/install.sh $(NEWEST)/venv test $(NEWEST)/lock.txt
	@echo "upgrade-check: newer than in setup/lock.txt are"; diff -U 0 setup/lock.txt $(NEWEST)/lock.txt | grep '^[-+][a-z]' || echo none
	$(NEWEST)/venv/bin/python -m pytest -rfE || { echo "the tests named above fail with the newer versions"; exit 1; }
	@echo "upgrade-check: the tests pass with the newest versions; make lock UPGRADE=1 takes them"

clean:
	rm -rf $(WORK) $(RESULTS)
