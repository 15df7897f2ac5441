# make help lists the targets. Everything native comes from engine/deps.sh.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The packages that never meet cgo. That they build without it is a rule of the
# architecture, so they are tested that way first.
PURE    := ./rpc/... ./agent/... ./schema/... ./tools/... ./editors/...
SOURCES := $(wildcard *.go agent editors engine rpc schema tools)
CARGO   := cargo --config "$(CURDIR)/.deps/cargo.toml"
PYTHON  := .deps/venv/bin/python
MODEL   := SmolLM2-135M-Instruct.Q4_1

FUZZTIME ?= 60s
MUTANTS  ?= 10000000
FRAMES   ?= 20000000
GUIDED   ?= 10m
BENCH    ?= .

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: deps
deps: ## fetch and build the native libraries and the default model (.deps/)
	@engine/deps.sh

.PHONY: build
build: deps ## bin/harmonyd
	go build -o bin/harmonyd .

.PHONY: scripted
scripted: ## bin/harmonyd-scripted: the same server with a scripted engine, no cgo
	CGO_ENABLED=0 go build -tags scripted -o bin/harmonyd-scripted .

.PHONY: model
model: build ## install the default model
	@bin/harmonyd models | awk '$$1 == "$(MODEL)" { found = 1 } END { exit !found }' || bin/harmonyd import '.deps/models/$(MODEL).gguf'

.PHONY: demo
demo: model ## install the default model and hold a conversation over stdio
	@go run ./rpc/rpctest/demo bin/harmonyd

.PHONY: test
# One phase after the other, so that the first failure is the last thing shown.
test: deps ## everything that CI checks
	@for phase in format vet pure race engine counts native fuzz; do \
	  start=$$SECONDS; \
	  echo "== $$phase"; \
	  $(MAKE) "test-$$phase" || exit; \
	  echo "== $$phase: $$((SECONDS - start)) s"; \
	done

.PHONY: test-format
# That Go files are formatted is a test of the root package.
test-format:
	@cd engine/native && cargo fmt --check >/dev/null || { echo 'rustfmt: run cargo fmt in engine/native'; exit 1; }

.PHONY: test-vet
test-vet:
	go vet ./...
	CGO_ENABLED=0 go vet -tags scripted . $(PURE)
	go vet -tags mlxdebug ./engine/mlx/...

.PHONY: test-pure
test-pure: scripted
	CGO_ENABLED=0 go test $(PURE)
	CGO_ENABLED=0 go test -tags scripted .

.PHONY: test-race
test-race:
	go test -race $(PURE) ./engine/job ./engine/weights ./engine/hub ./engine/enginetest/...

.PHONY: test-engine
# The counts have a phase of their own, which shows them.
test-engine:
	go test -skip TestCountsDoNotRise . ./engine/...
	go test -tags mlxdebug ./engine/mlx/...

.PHONY: test-counts
test-counts:
	@go test -count 1 -v -run TestCountsDoNotRise ./engine/bench

.PHONY: test-native
test-native:
	cd engine/native && $(CARGO) test --release --locked --quiet

.PHONY: test-gemma
# Not part of make test: the model is 253 MB, and its Python compiles llama.cpp.
test-gemma: deps ## import Gemma 3 270M as Q4_K_M and compare tensors, token ids and scores with others'
	@engine/deps.sh venv gemma
	go test ./engine -count=1 -v -run Gemma270M -gemma -timeout 30m

.PHONY: clients
clients: client-vscode client-pygls client-nvim ## clients of others against the scripted server, what they say validated with ajv

.PHONY: client-vscode client-pygls client-nvim
# The first run fetches the clients: seconds each.
client-vscode client-pygls client-nvim: client-%: scripted
	@rpc/rpctest/clients/run.sh $*

.PHONY: test-fuzz
test-fuzz:
	@$(MAKE) fuzz FUZZTIME=2s

.PHONY: fuzz
# go test fuzzes one target of one package at a time. Where its time is up while an
# input runs, it sometimes calls its own deadline a failure; a real one names the input.
fuzz: deps ## run every fuzz target for FUZZTIME (60s) each
	@grep -rEo '^func Fuzz[[:alnum:]_]+' --include='*_test.go' $(SOURCES) | \
	while IFS=: read -r file func; do \
	  name=$${func#func }; \
	  echo "fuzz: ./$$(dirname "$$file") $$name"; \
	  out=$$(go test -run '^$$' -fuzz "^$$name\$$" -fuzztime '$(FUZZTIME)' -fuzzminimizetime 1x "./$$(dirname "$$file")" </dev/null 2>&1) && failed= || failed=1; \
	  echo "$$out"; \
	  if [[ $$failed && ( $$out != *'context deadline exceeded'* || $$out == *'Failing input'* ) ]]; then exit 1; fi; \
	done

RECORDED = printf '%s: %s, commit %s, %s\n' "$@" "$$(date -u +%F)" "$$(git describe --always --dirty)" "$$(go version)"

.PHONY: fuzz-long
fuzz-long: deps ## read MUTANTS (ten million) broken files of each weights format and record it
	@mkdir -p .bench
	{ $(RECORDED); go test -count=1 ./engine/weights -run TestMutants -v -timeout 0 -mutants '$(MUTANTS)' | grep -E 'executions|FAIL|Error|seed'; } | tee .bench/mutants.txt
	grep -q 'GGUF: .*no finding' .bench/mutants.txt && mv .bench/mutants.txt engine/weights/testdata/mutants.txt

.PHONY: fuzz-wire-long
# Half an hour on 2 cores, and twice ten minutes with the fuzzers that look for new
# coverage.
fuzz-wire-long: ## read 20 million broken inputs, serve 2 million broken clients, fuzz both, and record it
	@mkdir -p .bench
	{ $(RECORDED); go test -count=1 ./rpc -run 'Test(Frame|Serve)Mutants' -v -timeout 0 -mutants '$(FRAMES)' | \
	    sed -nE 's/^ *[a-z_]+_test.go:[0-9]+: ((framing|serving): .*)/\1/p; /FAIL|seed/p'; \
	  for target in FuzzFrame FuzzServe; do \
	    go test ./rpc -run '^$$' -fuzz "^$$target\$$" -fuzztime '$(GUIDED)' -fuzzminimizetime 1x -timeout 0 | \
	      awk -v target="$$target" '/^fuzz: elapsed/ { time = $$3; sub(",", "", time); n = $$5; kept = $$NF } /^PASS/ { finding = "no finding" } \
	        END { printf "%s: %d executions by coverage, %d inputs kept, %s, %s\n", target, n, kept, finding ? finding : "a finding", time }'; \
	  done; } | tee .bench/fuzz.txt
	[[ $$(grep -c 'no finding' .bench/fuzz.txt) == 4 ]] && mv .bench/fuzz.txt rpc/testdata/fuzz.txt

.PHONY: fuzz-parse-long
fuzz-parse-long: ## parse 10 million mutants of answers, split in different ways, and record it
	@mkdir -p .bench
	{ $(RECORDED); CGO_ENABLED=0 go test -count=1 ./agent/parse -run TestP6Mutants -v -timeout 0 -parses 10000000 | \
	    sed -nE 's/^ *[a-z_]+_test.go:[0-9]+: ((parsers|seed).*)/\1/p; /FAIL/p'; } | tee .bench/parse.txt
	grep -q 'no finding' .bench/parse.txt && mv .bench/parse.txt agent/parse/testdata/mutants.txt

.PHONY: tokenizer-long
tokenizer-long: deps ## the default model's tokenizer: 20 million round trips, texts of 4 MiB
	go test -count=1 ./engine -run TestP3 -v -timeout 0 -roundtrips 20000000 -encodebytes 4194304

.PHONY: kill-long
kill-long: ## kill 2000 processes that write to a conversation
	CGO_ENABLED=0 go test -count=1 ./agent/conversation -run TestD1 -kills 2000 -v -timeout 0

.PHONY: constrain-long
constrain-long: deps ## 2,000 random schemas, four texts to each, and 100 by the default model: all must validate; record it
	@mkdir -p .bench
	{ $(RECORDED); go test -count=1 ./engine -run 'TestConstrainedTexts|TestDefaultModelWrites' -v -timeout 0 -schemas 2000 -seeds 4 -ownschemas 100 | \
	    sed -nE 's/^ *[a-z_]+_test.go:[0-9]+: (.* texts, .*)/\1/p; /FAIL|Error/p'; } | tee .bench/constrained.txt
	[[ $$(grep -c 'all of these valid' .bench/constrained.txt) == 2 ]] && ! grep -qE 'FAIL|Error' .bench/constrained.txt && mv .bench/constrained.txt engine/testdata/constrained.txt

.PHONY: json-schema-suite
# make test runs it too, in a second.
json-schema-suite: ## the official tests of JSON Schema through our validation, with what differs and why
	@engine/deps.sh suite
	CGO_ENABLED=0 go test -count=1 ./schema -run TestJSONSchemaTestSuite -v

.PHONY: bench-masks
bench-masks: deps ## how long masks take for a vocabulary of 128,256 tokens, and how many are there in time
	@engine/deps.sh llama3
	go test -run '^$$' -bench 'BenchmarkMasks|BenchmarkConstrainedSteps' -benchtime 3x ./engine
	go test -run '^$$' -bench BenchmarkMasksOfCalls -benchtime 3x .

.PHONY: planted-breaks
planted-breaks: deps ## plant every break that a figure's test must find, and see it found
	go test -count=1 . -run TestPlantedBreaks -planted -v -timeout 0

.PHONY: test-asan
test-asan: deps ## the binding under the address sanitizer and with every pointer checked
	go test -asan -count=1 -timeout 90m ./engine/mlx
	GOEXPERIMENT=cgocheck2 go test -count=1 ./engine/mlx

.PHONY: differential
differential: deps ## compare a million broken files with the Rust crate safetensors and record it
	cd engine/weights/testdata/differential && $(CARGO) build --release --locked --quiet
	@mkdir -p .bench
	{ $(RECORDED); go test -count=1 ./engine/weights -run TestDifferential -v -timeout 0 -mutants 1000000 -record \
	  -referee "$$(sed -n 's/^target-dir = "\(.*\)"/\1/p' .deps/cargo.toml)/release/differential" | \
	  sed -n 's/^ *differential_test.go:[0-9]*: //p; /FAIL/p'; } | tee .bench/differential.txt
	grep -q 'none by us alone' .bench/differential.txt && mv .bench/differential.txt engine/weights/testdata/differential.txt

.PHONY: bench
# The first run waits 15 minutes for llama.cpp to be compiled. Without the peers'
# Python the engine is measured alone.
bench: model ## measure the engine beside mlx-lm, llama.cpp and the roofline, on a quiet machine; BENCHFLAGS
	@engine/deps.sh venv || echo 'bench: the peers will be missing'
	bin/harmonyd bench -m '$(MODEL)' -o .bench/summary.json --label "$$(git describe --always --dirty)" $(BENCHFLAGS)

.PHONY: bench-smoke
bench-smoke: deps test-counts ## count what a prompt and a token cost, and fail where a count rose

.PHONY: bench-go
bench-go: build ## the Go benchmarks, ten times each; BENCH is a pattern
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count 10 ./...

.PHONY: wire-long
wire-long: ## 10,000 races of generate and cancel, 100,000 of cancel and finish, a million deltas, 5 s unread
	go test -race -count=1 ./rpc -run 'TestR8|TestR9' -races 10000 -timeout 60m
	go test -count=1 ./rpc -run 'TestS4' -deltas 1000000 -timeout 60m
	CGO_ENABLED=0 go test -count=1 -tags scripted . -run 'TestS3' -unread 5s -v -timeout 60m

.PHONY: life
life: deps ## how the program ends, 20 times in both framings with the scripted engine, and once with the real one
	CGO_ENABLED=0 go test -count=1 -tags scripted . -run 'TestL[0-9]' -life 20 -timeout 30m
	go test -count=1 . -run 'TestL[0-9]'

.PHONY: bench-wire
bench-wire: model scripted ## times of the protocol beside their goals, on a quiet machine
	@go run ./rpc/rpctest/figures

.PHONY: bench-start
bench-start: build ## from the spawn of the server to the first text of an answer
	go test -run '^$$' -bench SpawnToFirstToken -benchtime 20x .

.PHONY: bench-once
bench-once: build ## each Go benchmark once, so that none of them rots
	go test -run '^$$' -bench . -benchtime 1x ./...

.PHONY: dist
dist: deps ## dist/harmonyd-VERSION-OS-ARCH.tar.gz: the binary, its libraries, their licences
	@engine/deps/dist.sh

.PHONY: goldens
goldens: ## write the golden files anew with mlx-lm, transformers and llama.cpp
	@engine/deps.sh system mlx mlxc link model native venv gemma
	go test ./engine -run 'Golden|Gemma270M' -goldens -gemma -timeout 60m
	go test ./engine/nn -run Golden -goldens
	$(PYTHON) engine/native/testdata/goldens.py
	LD_PRELOAD=libopenblas.so.0 $(PYTHON) engine/sample/testdata/goldens.py engine/sample/testdata/goldens.json.gz
	$(PYTHON) engine/weights/testdata/blocks_golden.py engine/weights/testdata/blocks.json.gz
	@mkdir -p .bench
	go test ./engine -run TestP3RoundTrip -tokenizerout "$(CURDIR)/.bench/tokenizer.json"
	$(PYTHON) engine/testdata/tokenizer_hf.py .bench/tokenizer.json engine/testdata/tokenizer_hf.json
	$(PYTHON) engine/weights/testdata/tokenizer_golden.py '.deps/models/$(MODEL).gguf' \
	  engine/weights/testdata/smollm2_tokens.json.gz
	$(PYTHON) engine/weights/testdata/tokenizer_golden.py .deps/gemma/gemma-3-270m-q4_k_m.gguf \
	  engine/weights/testdata/gemma3_tokens.json.gz
	agent/prompt/testdata/goldens.sh .deps/agent

.PHONY: clean
clean: ## remove what make built; .deps stays
	rm -rf bin dist .bench
