#!/usr/bin/env bash
# Lets clients that others wrote talk to the scripted server, records what is said,
# and validates the recordings against the published schema with ajv.
#
#   rpc/rpctest/clients/run.sh CLIENT...   some of: vscode pygls nvim
#
# What the clients are made of lies in .deps/clients: npm's packages as
# package-lock.json pins them, PyPI's as requirements.txt does, and Neovim from
# Debian's development suite, whose packages bring their own C library.
# It needs bin/harmonyd-scripted, Node 20, Python 3.11 and, for Neovim, apt.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
here=rpc/rpctest/clients
deps=$(pwd)/.deps/clients
server=$(pwd)/bin/harmonyd-scripted
export HARMONYD_SCRIPT=$(pwd)/$here/script.json

say() { printf 'clients: %s\n' "$*"; }
die() {
  printf 'clients: %s\n' "$*" >&2
  exit 1
}

# fresh NAME FILE... says whether .deps/clients/NAME was made of these files.
# done_with says so from now on.
fresh() { [[ $(cat "$deps/$1/.key" 2>/dev/null) == "$(key "${@:2}")" ]]; }
done_with() { key "${@:2}" >"$deps/$1/.key"; }
key() { cat "$@" | python3 -c 'import hashlib,sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])'; }

# get_node installs the packages and compiles the programs beside them: Node looks
# for packages from the place of the program.
get_node() {
  local pins=("$here/package.json" "$here/package-lock.json")
  if ! fresh node "${pins[@]}"; then
    say 'npm: installing vscode-jsonrpc, ajv and typescript'
    rm -rf "$deps/node"
    mkdir -p "$deps/node"
    cp "${pins[@]}" "$here/.npmrc" "$deps/node/"
    (cd "$deps/node" && npm ci --ignore-scripts --silent)
    done_with node "${pins[@]}"
  fi
  rm -rf "$deps/node/src" "$deps/node/out"
  mkdir "$deps/node/src"
  cp "$here"/*.ts editors/vscode/src/protocol.ts "$deps/node/src/"
  cp "$here/tsconfig.json" "$deps/node/"
  "$deps/node/node_modules/.bin/tsc" -p "$deps/node"
}

get_python() {
  fresh python "$here/requirements.txt" && return
  say 'pip: installing pygls and pytest-lsp'
  rm -rf "$deps/python"
  python3 -m venv "$deps/python"
  "$deps/python/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps --only-binary=:all: \
    --require-hashes -r "$here/requirements.txt"
  done_with python "$here/requirements.txt"
}

# get_nvim unpacks Neovim and the libraries that it was built with. Nothing of it
# is installed. The suite keeps no old versions: of a package whose pinned version is gone
# the present one is taken and named, and Neovim itself must be a 0.12.
get_nvim() {
  fresh nvim "$here/nvim.txt" && return
  say 'apt: fetching Neovim'
  local dir=$deps/nvim site
  rm -rf "$dir"
  mkdir -p "$dir"/apt/{lists,cache}/partial "$dir"/apt/{parts,cache/archives/partial} "$dir"/{debs,root}
  site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | awk '!n && /\/debian\/?$/ { print; n = 1 }')
  [[ -n $site ]] || die 'nvim: apt knows no Debian archive'
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s sid main\n' "$site" >"$dir/apt/sources.list"
  : >"$dir/apt/status"
  cat >"$dir/apt/apt.conf" <<CONF
Dir::State::Lists "$dir/apt/lists";
Dir::State::status "$dir/apt/status";
Dir::Cache "$dir/apt/cache";
Dir::Etc::SourceList "$dir/apt/sources.list";
Dir::Etc::SourceParts "$dir/apt/parts";
Dir::Etc::PreferencesParts "$dir/apt/parts";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
  export APT_CONFIG=$dir/apt/apt.conf
  apt-get update -qq
  local name version
  while read -r name version; do
    (cd "$dir/debs" && apt-get download -qq "$name=$version" 2>/dev/null) && continue
    (cd "$dir/debs" && apt-get download -qq "$name")
    say "nvim: $name $version is gone, took $(cd "$dir/debs" && echo "${name}"_*)"
  done <"$here/nvim.txt"
  unset APT_CONFIG
  for deb in "$dir"/debs/*.deb; do dpkg -x "$deb" "$dir/root"; done
  cat >"$dir/nvim" <<'SH'
#!/bin/sh
root=$(dirname "$0")/root
libraries=$(echo "$root"/usr/lib/*-linux-gnu)
VIMRUNTIME=$root/usr/share/nvim/runtime exec "$root"/usr/lib*/ld-linux-*.so.* --library-path "$libraries" "$root/usr/bin/nvim" "$@"
SH
  chmod +x "$dir/nvim"
  rm -rf "$dir/apt" "$dir/debs"
  version=$("$dir/nvim" --version)
  [[ $version == 'NVIM v0.12.'* ]] || die "nvim: got ${version%%$'\n'*}, want 0.12"
  done_with nvim "$here/nvim.txt"
}

run_vscode() {
  node "$deps/node/out/vscode.js" "${recorded[@]}"
}

run_pygls() {
  get_python
  SERVER="${recorded[*]@Q}" PYTHONDONTWRITEBYTECODE=1 "$deps/python/bin/python" -m pytest -q -p no:cacheprovider \
    -o asyncio_default_fixture_loop_scope=function "$here/test_pygls.py"
}

run_nvim() {
  get_nvim
  XDG_STATE_HOME=$recordings XDG_CACHE_HOME=$recordings LUA_PATH="$(pwd)/editors/nvim/lua/?.lua;;" \
    "$deps/nvim/nvim" --headless --clean -l "$here/nvim.lua" "${recorded[@]}"
}

(($#)) || die 'which client: vscode, pygls or nvim?'
[[ -x $server ]] || die 'bin/harmonyd-scripted is missing: make scripted'
recordings=$(mktemp -d)
trap 'if (($?)); then say "what was recorded is in $recordings"; else rm -rf "$recordings"; fi' EXIT
CGO_ENABLED=0 go build -o "$recordings/record" ./rpc/rpctest/record
"$server" schema >"$recordings/schema.json"
get_node
for client; do
  [[ $(type -t "run_$client") == function ]] || die "unknown client $client"
  recorded=("$recordings/record" "$recordings/$client-*.jsonl" "$server" --log-level warn)
  "run_$client"
  node "$deps/node/out/validate.js" "$recordings/schema.json" "$recordings/$client"-*.jsonl
  say "$client: ok"
done
