#!/bin/sh
# Builds the pinned MinIO into the cache folder of the tests, unless it is there or HEADPOND_TEST_MINIO names one.
set -eu
version=v0.0.0-20260212201848-7aac2a2c5b7c
if [ -n "${HEADPOND_TEST_MINIO:-}" ]; then
    [ -x "$HEADPOND_TEST_MINIO" ] && exit 0
    echo "HEADPOND_TEST_MINIO=$HEADPOND_TEST_MINIO is not an executable file" >&2
    exit 1
fi
bin="${XDG_CACHE_HOME:-$HOME/.cache}/headpond-tests/bin"
if [ -x "$bin/minio" ] && [ "$(cat "$bin/minio.version" 2>/dev/null)" = "$version" ]; then
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "the tests need MinIO: install Go 1.24 or newer so that it can be built (about 3 minutes, once)," >&2
    echo "or set HEADPOND_TEST_MINIO to a minio binary" >&2
    exit 1
fi
echo "building MinIO $version into $bin (once)"
mkdir -p "$bin"
GOBIN="$bin" go install "github.com/minio/minio@$version"
echo "$version" >"$bin/minio.version"
