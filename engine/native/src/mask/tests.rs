use super::*;
use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo};
use llguidance::{Logger, Matcher, ParserFactory};
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
pub(crate) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
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
        json!({"type": "string", "pattern": "^.[0-9a-z]{3}$"}),
        json!({"type": "array", "items": {"anyOf": [{"type": "string", "pattern": "^..[0-9]$"},
            {"type": "number"}]}}),
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
    for lines in [
        "start: text \"a\"\ntext[suffix=\"abc\"]: /(?s:.*)/\n",
        "start: A B\nA: /.{0,5}/\nB: /[a-z]+/\n",
        "start: (a \"x\")*\na[lazy]: /.*[0-9]/\n",
        "start: (A | B | C)+\nA: /[a-e]+/\nB: /[^a-e]/\nC: /[日é]+/\n",
        "start: A+\nA: /.{3}/\n%ignore / +/\n",
        "start: /.*/ <[0]>\n",
        "start: /(?s:.{1,6})/ <[0]>\n",
        "start: A B? C\nA: /.{4}/\nB: /[a-z]{2}/\nC: /[^x]{3}/\n",
        "start: (a | B)+\na[capture=\"x\"]: /.{2}/\nB: /[ab].{3}/\n",
        "start: a \"z\"\na[max_tokens=3]: /.*/\n",
        "start: T\nT: /.*/ & ~/.*ab.*/ & ~/.*e$/\n",
    ] {
        all.push(lark(lines));
    }
    all
}

/// Grammars of one to four lexemes whose characters live and die at all lengths.
fn expressions(r: &mut Random, n: usize) -> Vec<TopLevelGrammar> {
    let atoms = [
        ".",
        "[a-z]",
        "[^a]",
        "a",
        "\\p{L}",
        "[0-9 ]",
        "日",
        "[^\u{80}-\u{10ffff}]",
        "-",
        "[^x-z]{2}",
        "(?s:.)",
        "the",
        ".{3}",
    ];
    let counts = ["", "", "?", "*", "+", "{2}", "{1,4}"];
    let often = ["", "", "?", "*", "+"];
    let mut all = Vec::new();
    for _ in 0..n {
        let mut start = "start:".to_owned();
        let mut lexemes = String::new();
        for i in 0..=r.below(4) {
            let mut text = String::new();
            for _ in 0..=r.below(4) {
                let atom = atoms[r.below(atoms.len())];
                text += &format!("(?:{atom}){}", counts[r.below(counts.len())]);
                text += ["", "", "", "", "", "|"][r.below(6)];
            }
            start += &format!(" T{i}{}", often[r.below(often.len())]);
            lexemes += &format!("T{i}: /{text}/\n");
        }
        all.push(TopLevelGrammar::from_lark(format!("{start}\n{lexemes}")));
    }
    all
}

fn world() -> (Random, TokEnv, ParserFactory) {
    let mut r = Random(88172645463325252);
    let env = vocabulary(&mut r);
    let mut factory = ParserFactory::new(&env, Default::default(), &symbols()).unwrap();
    factory.quiet();
    (r, env, factory)
}

#[test]
fn a_mask_is_what_a_walk_through_the_whole_vocabulary_makes() {
    let (mut r, env, factory) = world();
    let more = limits(factory.limits());
    let mut masks = Masks::new(&env);
    masks.steps = LONGEST; // as in a large vocabulary
    let masks = Arc::new(masks);
    let (mut compared, mut judged) = (0, 0);
    let all = [grammars(), expressions(&mut r, 80)].concat();
    for grammar in all {
        for _ in 0..4 {
            let Ok(mut parser) = factory.create_parser(grammar.clone()) else {
                continue; // a lexeme may be empty
            };
            parser.bias_computer = Arc::new(Whole(env.clone()));
            let mut whole = Matcher::new(Ok(parser));
            let init = GrammarInit::Serialized(grammar.clone());
            let caps = InferenceCapabilities::default();
            let quiet = Logger::new(0, 0);
            let mut parser = factory
                .create_parser_from_init_ext(init, quiet, caps, more.clone())
                .unwrap();
            parser.bias_computer = masks.clone();
            let mut ours = Matcher::new(Ok(parser));
            for _ in 0..40 {
                let Ok(want) = whole.compute_mask_or_eos() else {
                    break; // too hard for the library itself
                };
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
    assert!(compared > 5_000 && judged > 1_000, "{compared} {judged}");
}

#[test]
fn words_are_judged_by_their_length() {
    let (_, env, factory) = world();
    let regex = TopLevelGrammar::from_regex;
    let string = |n| TopLevelGrammar::from_json_schema(json!({"type": "string", "maxLength": n}));
    let lark = |s: &str| TopLevelGrammar::from_lark(s.to_owned());
    let mark = |after| {
        let text = r#"text[suffix="\n</mark>"]: /(?s:.*)/"#;
        TopLevelGrammar::from_lark(format!("start: text {after}\n{text}\n"))
    };
    let (all, no) = ((LONGEST, true), (0, false));
    for (grammar, begin, want) in [
        (regex("(?s:.*)"), "ab", [all; KINDS.len()]),
        (regex("[^0-9]*"), "ab", [no; KINDS.len()]),
        (regex("[a-zA-Z0-9 ]{6}-"), "ab", [no; KINDS.len()]),
        (
            regex("[a-zA-Z0-9 \u{80}-\u{10ffff}]{6}-"),
            "ab",
            [(4, true), no, no, no, no],
        ),
        (string(9), "\"ab", [(7, true); KINDS.len()]),
        (string(9), "\"abcdefghi", [(0, true); KINDS.len()]),
        (string(20), "\"ab", [(16, false); KINDS.len()]),
        (string(9000), "\"ab", [all; KINDS.len()]),
        (mark(""), "ab", [all; KINDS.len()]),
        // Behind the lexeme, the parser goes on.
        (
            lark("start: A <[0]>\nA: /(?s:.{1,6})/\n"),
            "ab",
            [(4, true); KINDS.len()],
        ),
        (
            lark("start: A+\nA: /(?s:.{3})/\n"),
            "ab",
            [all; KINDS.len()],
        ),
        (
            lark("start: A B\nA: /(?s:.{3})/\nB: /[a-z]+/\n"),
            "ab",
            [(1, false); KINDS.len()],
        ),
        // The mark ends with a character of the last kind.
        (mark(""), "ab\n</ma", [all, all, all, all, (2, false)]),
        (mark("\"a\""), "ab\n</mark>", [no; KINDS.len()]),
    ] {
        let mut parser = factory.create_parser(grammar).unwrap();
        parser.start_without_prompt();
        for byte in begin.bytes() {
            let token = env.tok_trie().token_id(&[byte]).unwrap();
            parser.consume_token(token).unwrap();
        }
        let got = parser.parser.with_recognizer(|rec| judge(rec, LONGEST));
        assert_eq!(got.map(|v| (v.may, v.only)), want, "{begin:?}");
    }
}
