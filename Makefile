# SPDX-License-Identifier: Apache-2.0
# The front door. The build itself is CMake's: see CMakePresets.json.

LISTEN ?= 127.0.0.1:8080
LISTEN_TLS ?= 127.0.0.1:8443
PREFIX ?= /usr/local
SEEDS ?= 100000
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 30
ZEROCOPY ?= auto
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help build run test test-vm testssl matrix demo talk bench bench-tls fuzz sim soak install clean

help:
	@echo 'make build      build the program: build/weir'
	@echo 'make run        serve examples/site on http://$(LISTEN) and https://$(LISTEN_TLS)'
	@echo '                (LISTEN=ADDR:PORT LISTEN_TLS=ADDR:PORT)'
	@echo 'make test       run every test, sanitizer builds included'
	@echo 'make test-vm    run only the tests in the virtual machine, on other kernels'
	@echo 'make testssl    what testssl.sh finds in the default configuration, with each TLS library'
	@echo 'make matrix     each engine, TLS library and version, kernel TLS, memory and file: a table'
	@echo '                (ZEROCOPY=on: with zero copy, whatever the link)'
	@echo 'make demo       what write() says, what Weir says, what the client measured, over 320 ms'
	@echo 'make talk       the four experiments of the talk in README.md again: writes docs/talk.md'
	@echo 'make bench      compare with nginx, h2o, HAProxy, Traffic Server and the limit: 25 minutes'
	@echo '                (BENCH=--quick: 10; BENCH="1kb idle": parts; BENCH=--help)'
	@echo 'make bench-tls  only what TLS costs: a byte, a connection, an idle connection'
	@echo 'make fuzz       run each fuzzer for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'make sim        run SEEDS=$(SEEDS) simulations'
	@echo 'make soak       a mixed load of 2,000 connections for SOAK_MINUTES=$(SOAK_MINUTES): memory, descriptors, log'
	@echo 'make install    install below PREFIX=$(PREFIX)    (DESTDIR=... to stage it)'
	@echo 'make clean      remove everything that was built'

build:
	@packaging/bootstrap build
	@said=$$(cmake --preset release -DCMAKE_INSTALL_PREFIX='$(PREFIX)' 2>&1) \
		|| { printf '%s\n' "$$said"; exit 1; }
	@cmake --build --preset release

run: build
	@echo 'Weir serves examples/site on http://$(LISTEN) and https://$(LISTEN_TLS)'
	@echo '(stop it with Ctrl-C; its access log follows)'
	@exec build/weir serve examples/site --listen '$(LISTEN)' --listen-tls '$(LISTEN_TLS)' --access-log -

test:
	@packaging/bootstrap build test
	@packaging/bootstrap vm || echo 'Going on without the virtual machine.'
	@exec python3 tests/run

test-vm:
	@packaging/bootstrap build test vm
	@exec python3 tests/run --build vm

testssl: build
	@packaging/bootstrap build test
	@WEIR=build/weir WEIR_TESTSSL_ALL=1 exec python3 tests/e2e/testssl_test.py

matrix: build
	@packaging/bootstrap test
	@packaging/bootstrap vm || echo 'Going on without the virtual machine.'
	@cmake --build --preset release --target matrix_peer
	@exec python3 tests/matrix/matrix.py --zerocopy '$(ZEROCOPY)'

demo: build
	@packaging/bootstrap demo
	@packaging/bootstrap vm || echo 'Going on without the virtual machine.'
	@exec python3 tests/lab/demo.py

talk: build
	@packaging/bootstrap talk
	@packaging/bootstrap vm || echo 'Going on without the virtual machine.'
	@cmake --build --preset release --target example_memory
	@exec python3 bench/talk.py

bench: build
	@packaging/bootstrap bench
	@cmake --build --preset release --target example_memory
	@exec python3 bench/run.py $(BENCH)

bench-tls: build
	@packaging/bootstrap bench
	@exec python3 bench/run.py 128kb-tls 1kb-tls 100mb-tls connect idle \
		--json build/bench-tls.json --html build/bench-tls.html $(BENCH)

fuzz:
	@packaging/bootstrap build fuzz
	@exec python3 tests/run --fuzz '$(FUZZ_SECONDS)'

sim:
	@packaging/bootstrap build test
	@exec python3 tests/run --sim '$(SEEDS)'

soak: build
	@packaging/bootstrap test
	@WEIR=build/weir exec python3 tests/soak/soak.py --minutes '$(SOAK_MINUTES)'

install: build
	@DESTDIR='$(DESTDIR)' cmake --install build
	@if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

clean:
	rm -rf build build-*
