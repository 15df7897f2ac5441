use super::*;
use crate::mask::tests::Random;
use crate::table::byte_chars;

/// A byte-level vocabulary of the single bytes, whose normalizer writes
/// lower case, and an end token.
fn vocabulary() -> Vocabulary {
    let vocab: serde_json::Map<String, Value> = byte_chars()
        .into_iter()
        .map(|(c, byte)| (c.to_string(), json!(byte)))
        .collect();
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true});
    let file = json!({"version": "1.0", "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "added_tokens": [{"id": 256, "content": "<end>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    let tokenizer = Tokenizer::load(file.to_string().as_bytes(), None).unwrap();
    Vocabulary::new(Arc::new(tokenizer), 300, &[256]).unwrap()
}

#[test]
fn forced_tokens_spell_the_grammar_and_not_what_the_normalizer_makes_of_it() {
    let grammar = Arc::new(vocabulary().compile("regex", "ABC.").unwrap());
    assert_eq!(grammar.matcher().forced().unwrap(), [65, 66, 67]);
}

#[test]
fn a_mask_has_no_bits_beyond_the_logits() {
    let grammar = Arc::new(vocabulary().compile("regex", "(?s:.)*").unwrap());
    let mut words = vec![u32::MAX; 300usize.div_ceil(32)];
    let mut matcher = grammar.matcher();
    matcher.mask(&mut words).unwrap();
    let bits = |w: &[u32]| w.iter().map(|w| w.count_ones()).sum::<u32>();
    // Every byte that can begin a character, and the end.
    assert_eq!(bits(&words), 128 + (0xf4 - 0xc2 + 1) + 1);
    assert_eq!(words[256 / 32], 1);
    matcher.consume(256).unwrap();
    matcher.mask(&mut words).unwrap();
    assert_eq!(bits(&words), 1);
}

/// The masks of a text that goes on with any token that may come.
fn text(mut matcher: Matcher, mut r: Random) -> Vec<Vec<u32>> {
    let mut masks = Vec::new();
    for _ in 0..60 {
        let mut words = vec![0; 300usize.div_ceil(32)];
        matcher.mask(&mut words).unwrap();
        let may = |t: &usize| words[t / 32] >> (t % 32) & 1 == 1;
        let tokens: Vec<usize> = (0..300).filter(may).collect();
        let token = tokens[r.below(tokens.len())] as u32;
        masks.push(words);
        if token == 256 {
            break;
        }
        matcher.consume(token).unwrap();
    }
    masks
}

#[test]
fn a_text_with_the_lexer_of_another_has_the_same_masks() {
    let words = vocabulary();
    let schema = r#"{"type": "array", "items": {"anyOf": [{"type": "string", "maxLength": 30},
        {"type": "number"}, {"enum": ["abc", "abd"]}]}}"#;
    for (kind, source) in [
        ("json_schema", schema),
        ("regex", "(?s:.){0,20}(abc|[0-9]+)"),
    ] {
        let kept = Arc::new(words.compile(kind, source).unwrap());
        for seed in 1..40 {
            let new = Arc::new(words.compile(kind, source).unwrap());
            let masks = text(new.matcher(), Random(seed));
            assert_eq!(text(kept.matcher(), Random(seed)), masks);
        }
        let [idle] = &kept.idle()[..] else {
            panic!("{} lexers", kept.idle().len())
        };
        let states = |start: &TokenParser| start.parser.lexer_stats().num_states;
        assert!(states(&idle.start) > states(&kept.start));
    }
}

#[test]
fn lexers_are_kept_for_later_texts_unless_they_failed() {
    let words = vocabulary();
    let grammar = Arc::new(words.compile("regex", "[a-z]{5,}").unwrap());
    let bytes = || words.idle_bytes.load(Relaxed);
    let three = [(); 3].map(|()| grammar.matcher());
    assert_eq!((grammar.idle().len(), bytes()), (0, 0));
    drop(three);
    assert_eq!(grammar.idle().len(), MAX_IDLE);
    assert!(bytes() > 1000);

    let mut failed = grammar.matcher();
    assert_eq!(grammar.idle().len(), MAX_IDLE - 1);
    failed.consume(u32::from(b'a')).unwrap();
    assert!(failed.inner.consume_token(9999).is_err());
    drop(failed);
    assert_eq!(grammar.idle().len(), MAX_IDLE - 1);

    words.idle_bytes.fetch_add(MAX_IDLE_BYTES, Relaxed);
    let two = [(); 2].map(|()| grammar.matcher());
    drop(two);
    assert_eq!(grammar.idle().len(), 0, "there is no room");
    words.idle_bytes.fetch_sub(MAX_IDLE_BYTES, Relaxed);
    drop(grammar.matcher());
    drop(grammar);
    assert_eq!(bytes(), 0);
}

#[test]
fn a_lexer_of_too_many_states_begins_no_other_text() {
    let grammar = Arc::new(vocabulary().compile("regex", "[ab]*a[ab]{30}c").unwrap());
    let mut matcher = grammar.matcher();
    let mut r = Random(1);
    for _ in 0..mask::KEPT_STATES {
        matcher.mask(&mut [0; 300usize.div_ceil(32)]).unwrap();
        matcher.consume(u32::from(b"ab"[r.below(2)])).unwrap();
    }
    drop(matcher);
    assert_eq!(grammar.idle().len(), 0);
    drop(grammar.matcher());
    assert_eq!(grammar.idle().len(), 1);
}
