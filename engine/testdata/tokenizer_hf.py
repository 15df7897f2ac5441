#!/usr/bin/env python3
"""Write what Hugging Face's tokenizers gives for 12,000 strings, as checksums.

    tokenizer_hf.py TOKENIZER.json OUT.json

The strings are not stored: each is up to ten of the pieces below, chosen by splitmix64 of a
counter, which TestP3ParityWithHF does too. OUT holds the version used, the pieces, and for each
string the CRC-32 of its ids as little-endian 32-bit numbers, first with special tokens recognized,
then with special tokens as ordinary text.

Made with tokenizers 0.23.3 from the tokenizer.json that importing SmolLM2-135M-Instruct.Q4_1.gguf
writes.
"""

import json
import struct
import sys
import unicodedata
import zlib

STRINGS = 12000
MASK = (1 << 64) - 1
PIECES = """a e I the The of and to in is I'm you're we've they'll he'd don't DON'T O'Neill 'tis 's 'S 'll 'LL ’s
token tokenizer antidisestablishmentarianism foo_bar fooBar foo-bar C:\\path ~/.config https://example.com/a?b=c&d=%20#e
user@example.com 3.14159 1,000,000 1e-9 0xDEADBEEF 2026-11-24 12:34:56 v1.2.3 $9.99 €5 50% ½ ² Ⅷ ٣٤٥ १२३ 7 42 123 1234567890
日本語 中文字符 一 한국어 ไทย עברית العربية हिन्दी தமிழ் ქართული ελληνικά Привет naïve café cafe\u0301 Straße ﬁ İ ǅ ℵ ∑ √2 ≤ →
« » „ “ ” … – — · § © ™ ± × ÷ 👍 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 1️⃣ 🤷🏽‍♀️ Z͑ͫ̓a̴l̷g̶o \u200b \u200d \u2028 \u00a0 \u0085 \u3000 \ufeff \ufffd \ue000
\U000f0000 \U0010ffff \u0378 \x00 \x01 \x7f \x1b[31m <|im_start|> <|im_end|> <|endoftext|> <|im_ im_end|> <| |> < > | <IM_START>
def func return {" "} [] () ; : :: := == != <= -> => // /* */ # ## ``` --- === *** \\n \\begin{equation} <div> </div> &nbsp;
. , ! ? ... ' '' " ( ) @ & % ^ ~ ` $ _ __ - -- + = / \\ system user assistant Hello world""".replace("\n", " ").split(" ")
PIECES += [" ", " ", " ", "  ", "   ", "    ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", " \n", "\n ", " \t ", "        "]
for first in list(range(0xA0, 0x3000, 0x80)) + list(range(0x3000, 0x20000, 0x1800)):
    letters = [chr(c) for c in range(first, first + 0x80) if unicodedata.category(chr(c)) not in ("Cs", "Cn")]
    if letters:
        PIECES.append("".join(letters[:: max(1, len(letters) // 5)]))


def splitmix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


def string(n):
    state = splitmix(n)
    out = []
    for _ in range(1 + state % 10):
        state = splitmix(state)
        out.append(PIECES[state % len(PIECES)])
    return "".join(out)


def main():
    import tokenizers

    path, out = sys.argv[1:]
    sums = []
    for plain in (False, True):
        t = tokenizers.Tokenizer.from_file(path)
        t.encode_special_tokens = plain
        for n in range(STRINGS):
            ids = t.encode(string(n), add_special_tokens=False).ids
            sums.append("%08x" % zlib.crc32(struct.pack(f"<{len(ids)}I", *ids)))
    golden = {"tokenizers": tokenizers.__version__, "pieces": PIECES, "with": "".join(sums[:STRINGS]),
              "plain": "".join(sums[STRINGS:])}
    with open(out, "w") as f:
        json.dump(golden, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")
    print(STRINGS, "strings of", len(PIECES), "pieces,", sum(a != b for a, b in zip(sums[:STRINGS], sums[STRINGS:])),
          "with special tokens")


if __name__ == "__main__":
    main()
