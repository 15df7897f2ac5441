//! Constrained decoding with llguidance: which tokens may come next.

use crate::guard::{caught, deep, Failure};
use crate::mask::{self, symbols, Masks};
use crate::table::{CONTROL, PRESENT};
use crate::tokenizer::Tokenizer;
use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher as Inner, ParserFactory, TokenParser};
use serde_json::{json, Value};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest grammar source.
const MAX_SOURCE: usize = 4 << 20;
/// The largest mask; the trie keeps 24 bits for an id.
const MAX_VOCAB: usize = 1 << 22;
/// The longest token that the trie can hold; longer ones are never allowed.
const MAX_TOKEN: usize = 1000;
/// How many lexers of walks that ended a grammar keeps, and how many bytes, as the library
/// counts them, all of those have that the grammars of a vocabulary keep. Where a grammar has
/// thousands of lexemes it is up to three times as many.
const MAX_IDLE: usize = 2;
const MAX_IDLE_BYTES: usize = 64 << 20;
/// How deep brackets may nest in a grammar that is not JSON.
const MAX_DEPTH: usize = 200;

/// A tokenizer's vocabulary as llguidance walks it.
pub struct Vocabulary {
    factory: ParserFactory,
    masks: Arc<Masks>,
    /// How many bytes the lexers of all idle walks have.
    idle_bytes: Arc<AtomicUsize>,
    size: usize,
}

/// A compiled grammar, from which matchers start.
pub struct Grammar {
    start: TokenParser,
    /// Walks that have not begun, with the lexers of some that ended: what those have found
    /// out of the grammar, the next text need not find out again.
    idle: Mutex<Vec<Idle>>,
    /// How many bytes the lexers of all idle walks of the vocabulary have.
    idle_bytes: Arc<AtomicUsize>,
    size: usize,
}

/// A walk that has not begun, and the size of its lexer.
struct Idle {
    start: TokenParser,
    bytes: usize,
}

/// One walk through a grammar.
pub struct Matcher {
    inner: Inner,
    /// The walk before it began, which shares its lexer, until the end.
    start: Option<TokenParser>,
    grammar: Arc<Grammar>,
}

struct Env {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// Splits forced text as the tokenizer would, unless its normalizer writes
    /// other bytes than the grammar wants. A vocabulary need not have a token for
    /// each byte: the library would leave the byte out, and go on behind it.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let mut tokens = self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let ids = self.tokenizer.encode_bare(text).unwrap_or_default();
            if self.spells(&ids, text.as_bytes()) == text.len() {
                return ids;
            }
            self.trie.greedy_tokenize(text.as_bytes())
        });
        let (mut spelled, mut fit) = (0, 0);
        for &id in &tokens {
            match self.spells(&[id], &bytes[spelled..]) {
                0 => break,
                n => spelled += n,
            }
            fit += 1;
        }
        tokens.truncate(fit);
        tokens
    }

    fn tokenize_is_canonical(&self) -> bool {
        true
    }
}

impl Env {
    /// How many of the bytes the tokens spell, 0 where one of them spells others.
    fn spells(&self, ids: &[u32], bytes: &[u8]) -> usize {
        let mut rest = bytes;
        for &id in ids {
            let token = self.trie.token(id);
            match rest.strip_prefix(token) {
                Some(after) if !token.is_empty() => rest = after,
                _ => return 0,
            }
        }
        bytes.len() - rest.len()
    }
}

impl Vocabulary {
    /// Builds the trie. size is the number of logits, which may exceed the
    /// number of tokens; eos lists the tokens that end a text.
    pub fn new(tokenizer: Arc<Tokenizer>, size: usize, eos: &[u32]) -> Result<Vocabulary, Failure> {
        if size == 0 || size > MAX_VOCAB {
            return Err(refuse!(
                "vocabulary of {size} tokens, want 1 to {MAX_VOCAB}"
            ));
        }
        let Some(&first) = eos.first() else {
            return Err(refuse!("no end-of-text token"));
        };
        if let Some(id) = eos.iter().find(|&&id| id as usize >= size) {
            return Err(refuse!(
                "end-of-text token {id} outside the vocabulary of {size}"
            ));
        }
        let words: Vec<Vec<u8>> = (0..size as u32)
            .map(|id| word(&tokenizer, id, eos))
            .collect();
        let trie = TokTrie::from(&TokRxInfo::new(size as u32, first), &words).with_eos_tokens(eos);
        let env: TokEnv = Arc::new(Env { trie, tokenizer });
        let forces = env.tokenize_is_canonical();
        let caps = InferenceCapabilities {
            ff_tokens: forces,
            ..Default::default()
        };
        // It makes masks of its own, too, which are not used: it wants to be asked for them.
        let mut factory = ParserFactory::new(&env, caps, &symbols())?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        *factory.limits_mut() = mask::limits(factory.limits());
        let masks = Arc::new(Masks::new(&env));
        Ok(Vocabulary {
            factory,
            masks,
            idle_bytes: Arc::default(),
            size,
        })
    }

    /// Compiles a grammar of the kind json_schema, regex or lark.
    pub fn compile(&self, kind: &str, source: &str) -> Result<Grammar, Failure> {
        if source.len() > MAX_SOURCE {
            return Err(refuse!(
                "grammar of {} bytes, at most {MAX_SOURCE}",
                source.len()
            ));
        }
        let grammar = match kind {
            "json_schema" => TopLevelGrammar::from_json_schema(compact(source)?),
            "regex" => TopLevelGrammar::from_regex(shallow(source)?),
            "lark" => TopLevelGrammar::from_lark(shallow(source)?.to_owned()),
            other => {
                return Err(refuse!(
                    "grammar kind {other:?}, want json_schema, regex or lark"
                ))
            }
        };
        let start = deep(|| {
            let mut start = (self.factory.create_parser(grammar))
                .map_err(|e| refuse!("{kind}: {}", brief(&e.to_string())))?;
            start.bias_computer = self.masks.clone();
            start.start_without_prompt();
            Ok(start)
        })?;
        Ok(Grammar {
            start,
            idle: Mutex::default(),
            idle_bytes: self.idle_bytes.clone(),
            size: self.size,
        })
    }
}

/// The bytes that llguidance sees for a token. Control tokens carry its marker,
/// so that no text of a grammar matches them; so do the end tokens, which some
/// tokenizers list as ordinary ones. What is no token, or would look like a
/// marker, is empty, and is never allowed.
fn word(tokenizer: &Tokenizer, id: u32, eos: &[u32]) -> Vec<u8> {
    let table = &tokenizer.table;
    if table.flag(id, CONTROL) || eos.contains(&id) {
        let name = tokenizer
            .literal(id)
            .filter(|n| !n.is_empty() && n.len() <= MAX_TOKEN);
        let name = name.unwrap_or_else(|| format!("<token {id}>"));
        return [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat();
    }
    let bytes = table.bytes(id as usize);
    let plain = table.flag(id, PRESENT) && bytes.len() <= MAX_TOKEN;
    if plain && !bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) {
        return bytes.to_vec();
    }
    Vec::new()
}

/// Gives a schema the white space that models write: at most a space after a
/// comma or colon. The library's default is any amount, in which small models
/// get lost. What the schema's own x-guidance says stays.
fn compact(source: &str) -> Result<Value, Failure> {
    let mut schema: Value =
        serde_json::from_str(source).map_err(|e| refuse!("json_schema: {e}"))?;
    if let Some(object) = schema.as_object_mut() {
        let options = object.entry("x-guidance").or_insert_with(|| json!({}));
        if let Some(options) = options.as_object_mut() {
            for (name, value) in [
                ("whitespace_flexible", json!(false)),
                ("item_separator", json!(", ?")),
                ("key_separator", json!(": ?")),
            ] {
                options.entry(name).or_insert(value);
            }
        }
    }
    Ok(schema)
}

/// Refuses brackets that nest deep: the parsers of regexes and Lark recurse.
fn shallow(source: &str) -> Result<&str, Failure> {
    let mut depth = 0usize;
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(refuse!("grammar nests deeper than {MAX_DEPTH}"));
        }
    }
    Ok(source)
}

/// Cuts what the library appends for its own debugging.
fn brief(message: &str) -> &str {
    let end = ["\n<non-verbose/>", "\n<state>", "\n<backtrace>"];
    let end = end.iter().filter_map(|mark| message.find(mark)).min();
    &message[..end.unwrap_or(message.len())]
}

impl Grammar {
    pub fn matcher(self: &Arc<Self>) -> Matcher {
        let start = self.begin();
        Matcher {
            inner: Inner::new(Ok(start.clone())),
            start: Some(start),
            grammar: self.clone(),
        }
    }

    /// A walk that has not begun, with a lexer that no other has. The first mask of a new
    /// lexer takes the longest, so it is made before anybody waits for it. With a kept one it
    /// takes little, and gives it the fuel that a new one has.
    fn begin(&self) -> TokenParser {
        let mut start = match self.idle().pop() {
            Some(idle) => {
                self.idle_bytes.fetch_sub(idle.bytes, Relaxed);
                idle.start
            }
            None => self.start.deep_clone(),
        };
        start.invalidate_bias_cache();
        match caught(|| Ok(start.compute_mask()?)) {
            Ok(_) => start,
            Err(_) => self.start.deep_clone(), // whoever asks is told
        }
    }

    /// Keeps a walk that has not begun for a later text, where there is room for its lexer.
    fn keep(&self, start: TokenParser) {
        let stats = start.parser.lexer_stats();
        let (states, bytes) = (stats.num_states, stats.num_bytes);
        let mut idle = self.idle();
        if idle.len() == MAX_IDLE || states > mask::KEPT_STATES {
            return;
        }
        if self.idle_bytes.fetch_add(bytes, Relaxed) + bytes > MAX_IDLE_BYTES {
            self.idle_bytes.fetch_sub(bytes, Relaxed);
            return;
        }
        idle.push(Idle { start, bytes });
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Grammar {
    fn drop(&mut self) {
        let bytes = self.idle().iter().map(|idle| idle.bytes).sum();
        self.idle_bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Matcher {
    fn drop(&mut self) {
        let Some(start) = self.start.take() else {
            return;
        };
        // A lexer that failed serves nobody any more. A panic within the library leaves it
        // locked, so that the walk has to be asked first.
        if self.inner.get_error().is_none() && start.parser.get_error().is_none() {
            self.grammar.keep(start);
        }
    }
}

impl Matcher {
    fn check(&self) -> Result<(), Failure> {
        match self.inner.get_error() {
            Some(message) => Err(refuse!("grammar: {}", brief(&message))),
            None => Ok(()),
        }
    }

    /// Writes one bit for each token that may come next; token i is bit i%32 of
    /// word i/32. Once the grammar is complete, only the end tokens may.
    pub fn mask(&mut self, words: &mut [u32]) -> Result<(), Failure> {
        let size = self.grammar.size;
        if words.len() != size.div_ceil(32) {
            return Err(refuse!(
                "mask of {} words, want {}",
                words.len(),
                size.div_ceil(32)
            ));
        }
        self.check()?;
        let mask = match self.inner.compute_mask_or_eos() {
            Ok(mask) => mask,
            Err(_) if self.inner.stop_reason() == StopReason::NoExtensionBias => {
                return Err(refuse!("grammar: no token can follow"))
            }
            Err(e) => return Err(refuse!("grammar: {}", brief(&e.to_string()))),
        };
        let bits = mask.as_slice();
        words.copy_from_slice(&bits[..words.len()]);
        if !size.is_multiple_of(32) {
            words[size / 32] &= (1 << (size % 32)) - 1;
        }
        Ok(())
    }

    /// Goes on by one token. A token that the grammar does not allow is refused
    /// and changes nothing.
    pub fn consume(&mut self, token: u32) -> Result<(), Failure> {
        self.check()?;
        if self.inner.is_stopped() {
            return Err(refuse!("token {token}: the grammar is complete"));
        }
        // The library takes an unknown id for a failure of its own.
        if token as usize >= self.grammar.size {
            return Err(refuse!(
                "token {token}: outside the vocabulary of {}",
                self.grammar.size
            ));
        }
        match self.inner.try_consume_tokens(&[token]) {
            Ok(1) => Ok(()),
            Ok(_) => Err(refuse!("token {token}: not allowed by the grammar")),
            Err(e) => Err(refuse!("token {token}: {}", brief(&e.to_string()))),
        }
    }

    /// The tokens that must come next.
    pub fn forced(&mut self) -> Result<Vec<u32>, Failure> {
        if self.inner.is_stopped() {
            self.check()?;
            return Ok(Vec::new());
        }
        let tokens = self.inner.compute_ff_tokens();
        self.check()?;
        Ok(tokens)
    }

    /// Reports whether the text may end here.
    pub fn accepting(&mut self) -> Result<bool, Failure> {
        self.check()?;
        Ok(self.inner.is_accepting()?)
    }

    /// Reports whether nothing may follow but an end token, or the end came.
    pub fn stopped(&self) -> bool {
        self.inner.is_stopped()
    }
}

#[cfg(test)]
mod tests;
