#!/usr/bin/env bash
# Packs dist/harmonyd-VERSION-OS-ARCH.tar.gz: bin/harmonyd, the libraries it
# links under lib/, and the licences of everything inside. The archive works from
# any folder; it must never name a path of the machine that built it. Run by
# make dist, after make deps. Tried on Debian 12, x86_64; not run on macOS.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
deps=$root/.deps
cd "$root"

version=$(git describe --tags --always --dirty 2>/dev/null || echo unversioned)
name=harmonyd-$version-$(go env GOOS)-$(go env GOARCH)
stage=$root/dist/$name

# What every Linux desktop and server has. All else goes into the archive.
system='^(linux-vdso|ld-linux.*|libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s)\.so'

die() {
  printf 'dist: %s\n' "$*" >&2
  exit 1
}

# build links with the flags that look for libraries in the archive only.
build() {
  printf '{"Replace": {"%s": "%s"}}\n' "$root/engine/mlx/link_gen.go" "$deps/dist/link_gen.go" >"$deps/dist/overlay.json"
  go build -trimpath -buildvcs=auto -ldflags='-s -w' -overlay "$deps/dist/overlay.json" -o "$stage/bin/harmonyd" .
}

# libraries keeps the layout of .deps, which the libraries' own search paths
# expect. Headers stay out: only a compiler wants them.
libraries() {
  mkdir -p "$stage/lib/mlx-c/lib" "$stage/lib/mlx/mlx"
  cp -Rp "$deps"/mlx-c/lib/libmlxc.* "$stage/lib/mlx-c/lib/"
  cp -Rp "$deps/mlx/mlx/lib" "$stage/lib/mlx/mlx/"
  local bundled
  for bundled in "$deps"/mlx/*.libs; do
    [[ ! -d $bundled ]] || cp -Rp "$bundled" "$stage/lib/mlx/"
  done
}

# needed prints "NAME PATH" of every library that the staged binary loads.
needed() { ldd "$stage/bin/harmonyd" | awk '/=>/ { print $1, $3 }'; }

# bundle copies what the libraries need of this machine (OpenBLAS and its
# Fortran runtime), then checks that nothing else is found outside of the archive.
bundle() {
  [[ $(uname -s) != Darwin ]] || return 0
  local lib path package
  while read -r lib path; do
    [[ $path == /* ]] || die "$lib is not found"
    [[ $path != "$stage"/* && ! $lib =~ $system ]] || continue
    cp -L "$path" "$stage/lib/mlx-c/lib/$lib"
    package=$(dpkg -S "$(realpath "$path")" | cut -d: -f1)
    mkdir -p "$stage/licenses/$package"
    cp -L "/usr/share/doc/$package/copyright" "$stage/licenses/$package/"
  done < <(needed)
  while read -r lib path; do
    [[ $path == "$stage"/* || $lib =~ $system ]] || die "$lib comes from $path, not from the archive"
  done < <(needed)
}

# copy_licenses FROM TO copies the licence files of one module.
copy_licenses() {
  local file
  mkdir -p "$2"
  for file in "$1"/{LICENSE,LICENCE,COPYING,NOTICE,UNLICENSE}*; do
    [[ ! -f $file ]] || cp "$file" "$2/"
  done
  chmod -R u+w "$2"
}

licenses() {
  local module dir
  cp LICENSE README.md "$stage/"
  copy_licenses "$deps"/mlx/mlx_*.dist-info/licenses "$stage/licenses/mlx"
  copy_licenses "$deps/mlx-c" "$stage/licenses/mlx-c"
  copy_licenses "$(go env GOROOT)" "$stage/licenses/go"
  while read -r module dir; do
    copy_licenses "$dir" "$stage/licenses/go/$module"
  done < <(go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' . | sort -u)
  while read -r module dir; do
    copy_licenses "$dir" "$stage/licenses/rust/$module"
  done < <(crates)
}

# crates prints "NAME FOLDER" of every crate that the static library is built of
# and lists their licence expressions, since some crates carry no licence file.
crates() {
  mkdir -p "$stage/licenses/rust"
  (cd engine/native && cargo metadata --locked --quiet --format-version 1) |
    python3 -c '
import json, os, sys
with open(sys.argv[1], "w") as expressions:
    for p in json.load(sys.stdin)["packages"]:
        if p["source"]:
            name = p["name"] + "-" + p["version"]
            print(name, p["license"] or "see its licence file", file=expressions)
            print(name, os.path.dirname(p["manifest_path"]))
' "$stage/licenses/rust/EXPRESSIONS"
}

trap 'rm -rf "$stage"' EXIT
rm -rf "$stage"
mkdir -p "$stage/bin"
build
libraries
bundle
licenses
# From another folder, without the build tree's variables, it must still start.
(cd / && env -i HOME=/nonexistent "$stage/bin/harmonyd" version >/dev/null) || die 'the staged binary does not start'
! grep -raqF -e "$root" -e "$HOME/" "$stage" || die "a file names a path below $root or $HOME"
tar -C dist -czf "dist/$name.tar.gz" "$name"
echo "dist: dist/$name.tar.gz ($(du -h "dist/$name.tar.gz" | cut -f1))"
