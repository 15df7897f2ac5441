use super::*;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokRxInfo};
use llguidance::{Matcher, ParserFactory};
use serde_json::json;
use std::sync::Arc;

/// Walks through every token.
struct Whole(TokEnv);

impl BiasComputer for Whole {
    fn compute_bias(&self, rec: &mut ParserRecognizer<'_>, start: &[u8]) -> SimpleVob {
        let mut set = self.trie().alloc_token_set();
        self.trie().add_bias(rec, &mut set, start);
        set
    }

    fn trie(&self) -> &TokTrie {
        self.0.tok_trie()
    }
}

/// Numbers that look random and are the same each time: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// An end token, every byte, and pieces of what models write: words of all lengths, marks
/// in several parts, characters in several parts, and some pieces twice.
fn vocabulary(r: &mut Random) -> TokEnv {
    let mut words: Vec<Vec<u8>> = vec![b"\xff<end>".to_vec()];
    words.extend((0..=0xfe).map(|b| vec![b]));
    let text = "The answer, \"naïve\" 日本語 \u{1f600}: {\"name\": 12.5e-3}\n</parameter>\n\
        <tool_call> abcabcabc a1b2 C:\\dir\t[x] e\u{301}-2026 true null #\u{7f}\u{9f}";
    for from in 0..text.len() {
        for length in 1..=40 {
            if let Some(piece) = text.as_bytes().get(from..from + length) {
                words.push(piece.to_vec());
            }
        }
    }
    let letters: Vec<char> = "abcdeXYZ01 _-é日\u{1f600}".chars().collect();
    for length in (1..=40).flat_map(|n| [n; 40]) {
        let word: String = (0..length)
            .map(|_| letters[r.below(letters.len())])
            .collect();
        words.push(word.into_bytes());
    }
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, 0), &words);
    Arc::new(ApproximateTokEnv::new(trie))
}

fn grammars() -> Vec<TopLevelGrammar> {
    let lark = |s: &str| TopLevelGrammar::from_lark(s.to_owned());
    let schemas = [
        json!({"type": "object"}),
        json!({"type": "string", "maxLength": 7}),
        json!({"type": "array", "items": {"type": "string", "minLength": 2, "maxLength": 19}}),
        json!({"type": "array", "items": {"type": "string", "maxLength": 300}}),
        json!({"type": "string", "pattern": "^[a-c]{1,9}(1|日)[^x]{0,3}$"}),
        json!({"type": "object", "properties": {"abc": {"enum": ["abc", "abca", "日本"]},
            "e": {"type": "number"}}, "additionalProperties": {"type": "string"}}),
        json!({"type": "string", "format": "date-time"}),
    ];
    let mut all = schemas.map(TopLevelGrammar::from_json_schema).to_vec();
    all.extend(
        [
            "(?s:.*)",
            "[a-z é]{3,12}!?",
            "\\P{L}{1,8}",
            "[^\u{80}-\u{7ff}]{1,6}",
        ]
        .map(TopLevelGrammar::from_regex),
    );
    all.push(lark("start: NAME SP* NAME\nNAME: /[a-e]+/\nSP: / /\n"));
    all.push(lark("start: /[^c]{0,9}abc/ | \"abcab\" /.{2,5}/\n"));
    all.push(lark(
        "start: value \"</function>\"\nHAS: /(?s:.*)/ \"</parameter>\" /(?s:.*)/\n\
        value[suffix=\"\\n</parameter>\\n\"]: /(?s:.*)/ & ~HAS & /[^\\r]*/\n",
    ));
    all.push(lark("start: text \"a\"\ntext[suffix=\"abc\"]: /(?s:.*)/\n"));
    all
}

#[test]
fn a_mask_is_what_a_walk_through_the_whole_vocabulary_makes() {
    let mut r = Random(88172645463325252);
    let env = vocabulary(&mut r);
    let mut factory = ParserFactory::new(&env, Default::default(), &symbols()).unwrap();
    factory.quiet();
    let masks = Arc::new(Masks::new(&env));
    let (mut compared, mut judged) = (0, 0);
    for grammar in grammars() {
        for _ in 0..8 {
            let mut parser = factory.create_parser(grammar.clone()).unwrap();
            parser.bias_computer = Arc::new(Whole(env.clone()));
            let mut whole = Matcher::new(Ok(parser.deep_clone()));
            parser.bias_computer = masks.clone();
            let mut ours = Matcher::new(Ok(parser));
            for _ in 0..60 {
                let want = whole.compute_mask_or_eos().unwrap();
                let got = ours.compute_mask_or_eos().unwrap();
                assert_eq!(got.to_list(), want.to_list(), "{grammar:?}");
                compared += 1;
                judged += usize::from(got.num_set() > 1000);
                let tokens = got.to_list();
                let token = tokens[r.below(tokens.len())];
                if token == 0 {
                    break;
                }
                whole.consume_tokens(&[token]).unwrap();
                ours.consume_tokens(&[token]).unwrap();
            }
        }
    }
    assert!(compared > 1000 && judged > 200, "{compared} {judged}");
}

#[test]
fn words_are_judged_by_their_length() {
    let mut r = Random(88172645463325252);
    let env = vocabulary(&mut r);
    let mut factory = ParserFactory::new(&env, Default::default(), &symbols()).unwrap();
    factory.quiet();
    let regex = TopLevelGrammar::from_regex;
    let string = |n| TopLevelGrammar::from_json_schema(json!({"type": "string", "maxLength": n}));
    let mark = |after| {
        let text = r#"text[suffix="\n</mark>"]: /(?s:.*)/"#;
        TopLevelGrammar::from_lark(format!("start: text {after}\n{text}\n"))
    };
    let all = (LONGEST, true);
    for (grammar, begin, want) in [
        (regex("(?s:.*)"), "ab", [all, all]),
        (regex("[^0-9]*"), "ab", [(0, false), (0, false)]),
        (regex("[a-zA-Z0-9 ]{6}-"), "ab", [(0, false), (0, false)]),
        (
            regex("[a-zA-Z0-9 \u{80}-\u{10ffff}]{6}-"),
            "ab",
            [(4, true), (0, false)],
        ),
        (string(9), "\"ab", [(7, true), (7, true)]),
        (string(9), "\"abcdefghi", [(0, true), (0, true)]),
        (string(20), "\"ab", [(16, false), (16, false)]),
        (string(9000), "\"ab", [all, all]),
        (mark(""), "ab", [all, all]),
        // The mark's end is punctuation.
        (mark(""), "ab\n</ma", [all, (2, false)]),
        (mark("\"a\""), "ab\n</mark>", [(0, false), (0, false)]),
    ] {
        let mut parser = factory.create_parser(grammar).unwrap();
        parser.start_without_prompt();
        for byte in begin.bytes() {
            let token = env.tok_trie().token_id(&[byte]).unwrap();
            parser.consume_token(token).unwrap();
        }
        let got = parser.parser.with_recognizer(judge);
        assert_eq!(got.map(|v| (v.may, v.only)), want, "{begin:?}");
    }
}
