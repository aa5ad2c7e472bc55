# What there is to do with this tree; CONTRIBUTING.md says more.
.PHONY: build test bench lint fmt docs minio tools

# Named points at which tests end a process. Debug builds only.
POINTS = headpond-cli/failpoints

build:
	cargo build --release --locked

# Most tests wait more than they compute: with two processors they take half as long four at a time.
THREADS = $$(n=$$(nproc); [ $$n -gt 4 ] && echo $$n || echo 4)

# Everything the tests need is installed or built first, once: MinIO and the tools that read through mounts.
test: minio tools
	cargo build --locked --workspace --all-targets --features $(POINTS)
	rm -f target/test-summary
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$(THREADS)} HEADPOND_TEST_SUMMARY=$(CURDIR)/target/test-summary \
		cargo test --locked --workspace --features $(POINTS)
	@echo "tests that depend on what the user may do:" && sort -u target/test-summary

bench: minio
	cargo build --release --locked -p headpond-cli -p headpond-benches -p headpond-fuse -p headpond-tests --all-targets
	cargo run --release --locked -p headpond-benches -- $(BENCH)

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --workspace --all-targets --features $(POINTS) -- -D warnings

fmt:
	cargo fmt --all

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

minio:
	tests/setup/minio.sh

tools:
	tests/setup/tools.sh
