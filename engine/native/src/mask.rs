//! Masks without a walk through the whole vocabulary.
//!
//! Nine of ten tokens are words: characters that mean nothing to JSON and to most marks.
//! Within a string or free text all of them take a lexer from a state to one next state, so
//! whether a word may come depends on how many characters it has, and on nothing else. That
//! is asked of the lexer once a length; only what is left, and what may end a lexeme, is
//! walked through byte by byte.

use llguidance::api::ParserLimits;
use llguidance::derivre::StateID;
use llguidance::earley::{BiasComputer, ParserRecognizer};
use llguidance::toktrie::{Recognizer, SimpleVob, TokEnv, TokTrie};

/// The words of at most so many characters are judged by their length. Those up to each of
/// the lengths are kept apart from longer ones, so that what is left to walk through lies
/// together.
const LENGTHS: [usize; 3] = [8, 16, LONGEST];
const LONGEST: usize = 32;
/// How many states a lexer may have that begins another text.
pub const KEPT_STATES: usize = 20_000;
/// How much the lexer may spend on comparing expressions.
const FUEL: u64 = 1000;
/// How many nodes are walked through in the time that a step of all characters takes.
const NODES_A_STEP: usize = 10_000;
/// The states within characters that a step goes through; there are seven in most lexers.
const MAX_WITHIN: usize = 16;
/// The length of tokens that are no words: longer than any that a verdict is about.
const NEVER: u8 = u8::MAX;

/// The ASCII characters of the kinds of words, those of a kind without those before it.
/// Other characters belong to each. A token's kind is the first that has all its characters,
/// together with those before it. The last ones have what marks that are text are made of.
const KINDS: [fn(u8) -> bool; 5] = [
    |b| b.is_ascii_alphanumeric() || b == b' ',
    |b| b"!#$%&'*+,-.:;?@^~".contains(&b),
    |b| b"()[]`{|}".contains(&b),
    |b| b == b'_',
    |b| b"/=>".contains(&b),
];

/// A character of each kind.
const EXAMPLE: u8 = b'a';

/// The lengths up to which the lexer is first asked of all words together.
const TOGETHER: [usize; 2] = [16, LONGEST];

/// Expressions for all words up to each of those lengths, which every lexer has to be made
/// with. Whether a lexer's own expression holds all of these is found without its states, of
/// which a string of up to a thousand characters has one for each character.
pub fn symbols() -> Vec<String> {
    let of = |n| format!(r#"[^\x00-\x1F"\\<\x7F]{{1,{n}}}"#);
    TOGETHER.map(of).to_vec()
}

/// What one mask may take of a lexer and a parser: the judgment of words comes on top of what
/// the library counts on for a walk, and a text's own states on top of those kept.
pub fn limits(walk: &ParserLimits) -> ParserLimits {
    ParserLimits {
        step_lexer_fuel: 3 * walk.step_lexer_fuel,
        step_max_items: 2 * walk.step_max_items,
        max_lexer_states: walk.max_lexer_states + KEPT_STATES,
        ..walk.clone()
    }
}

/// Makes the masks of one vocabulary.
pub struct Masks {
    env: TokEnv,
    words: [Words; KINDS.len()],
    /// The tokens that are no words.
    others: Trie,
    /// How many steps a judgment may take before a walk is quicker.
    steps: usize,
}

/// The words of one kind.
struct Words {
    tries: [Trie; LENGTHS.len()],
    /// Those that have at most as many characters as the index.
    upto: Vec<SimpleVob>,
}

/// Some tokens in preorder of their bytes, those of the same bytes as siblings.
#[derive(Default)]
struct Trie {
    nodes: Vec<Node>,
    /// The nodes of the last token, while tokens are added.
    path: Vec<usize>,
}

struct Node {
    /// How many nodes the subtree has, this one too.
    size: u32,
    token: Option<u32>,
    depth: u16,
    byte: u8,
    /// The length of the longest word in the subtree, in characters.
    longest: u8,
}

/// What a lexer's state says of the words of a kind by their length alone.
struct Verdict {
    /// Words of at most so many characters may come.
    may: usize,
    /// None of the longer ones may; otherwise some may and some may not, or nobody knows.
    only: bool,
}

/// Where the characters of each kind lead a lexer from one state.
struct Step {
    from: StateID,
    kinds: [Moves; KINDS.len()],
}

#[derive(Clone, Default)]
struct Moves {
    to: Vec<StateID>,
    /// Some characters lead nowhere.
    dies: bool,
    /// Some end the lexeme, in these states: what follows, the parser knows.
    ends: Vec<StateID>,
    /// There is more to it than can be said here.
    unsure: bool,
}

impl Masks {
    pub fn new(env: &TokEnv) -> Masks {
        let trie = env.tok_trie();
        let mut ids: Vec<u32> = (0..trie.vocab_size() as u32).collect();
        ids.retain(|&id| !trie.token(id).is_empty());
        ids.sort_by_key(|&id| trie.token(id));
        let mut words = [(); KINDS.len()].map(|()| Words {
            tries: Default::default(),
            upto: vec![trie.alloc_token_set(); LONGEST + 1],
        });
        let mut others = Trie::default();
        for id in ids {
            let bytes = trie.token(id);
            match kind(bytes) {
                Some((kind, length)) => {
                    let part = LENGTHS.partition_point(|&most| most < length);
                    words[kind].tries[part].add(bytes, id, length as u8);
                    let sets = &mut words[kind].upto[length..];
                    sets.iter_mut().for_each(|set| set.allow_token(id));
                }
                None => others.add(bytes, id, NEVER),
            }
        }
        let tries = words.iter_mut().flat_map(|w| &mut w.tries);
        tries.chain([&mut others]).for_each(|trie| trie.leave(0));
        let nodes: usize = words[0].tries.iter().map(|t| t.nodes.len()).sum();
        Masks {
            env: env.clone(),
            words,
            others,
            steps: nodes / NODES_A_STEP,
        }
    }
}

impl Trie {
    /// Adds the next token in the order of their bytes.
    fn add(&mut self, bytes: &[u8], token: u32, length: u8) {
        let along = self.path.iter().zip(bytes);
        let shared = along
            .take_while(|(&at, &b)| self.nodes[at].byte == b)
            .count();
        let shared = shared.min(bytes.len() - 1);
        self.leave(shared);
        for (depth, &byte) in bytes.iter().enumerate().skip(shared) {
            let last = depth + 1 == bytes.len();
            self.path.push(self.nodes.len());
            self.nodes.push(Node {
                size: 1,
                token: last.then_some(token),
                depth: depth as u16 + 1,
                byte,
                longest: if last { length } else { 0 },
            });
        }
    }

    /// Leaves the nodes that lie deeper than depth: their subtrees are complete.
    fn leave(&mut self, depth: usize) {
        while self.path.len() > depth {
            let at = self.path.pop().unwrap();
            let longest = self.nodes[at].longest;
            self.nodes[at].size = (self.nodes.len() - at) as u32;
            if let Some(&above) = self.path.last() {
                self.nodes[above].longest = self.nodes[above].longest.max(longest);
            }
        }
    }

    /// Allows the tokens that the parser takes. It leaves out the subtrees in which no word
    /// is longer than decided.
    fn walk(&self, rec: &mut ParserRecognizer<'_>, set: &mut SimpleVob, decided: u8) {
        rec.trie_started("masks");
        let (mut at, mut depth, mut walked) = (0, 0, 0);
        while let Some(node) = self.nodes.get(at) {
            if node.longest > decided {
                walked += 1;
                let above = node.depth - 1;
                rec.pop_bytes(usize::from(depth - above));
                depth = above;
                if rec.try_push_byte(node.byte) {
                    depth += 1;
                    if let Some(token) = node.token {
                        set.allow_token(token);
                    }
                    at += 1;
                    continue;
                }
            }
            at += node.size as usize;
        }
        rec.pop_bytes(usize::from(depth));
        rec.trie_finished();
        rec.save_stats(walked);
    }
}

impl BiasComputer for Masks {
    fn compute_bias(&self, rec: &mut ParserRecognizer<'_>, start: &[u8]) -> SimpleVob {
        let mut set = self.trie().alloc_token_set();
        if !start.is_empty() {
            self.trie().add_bias(rec, &mut set, start);
            return set;
        }
        for (words, verdict) in self.words.iter().zip(judge(rec, self.steps)) {
            set.or(&words.upto[verdict.may]);
            for (trie, most) in words.tries.iter().zip(LENGTHS) {
                if verdict.may < most && !verdict.only {
                    trie.walk(rec, &mut set, verdict.may as u8);
                }
            }
        }
        self.others.walk(rec, &mut set, 0);
        set
    }

    fn trie(&self) -> &TokTrie {
        self.env.tok_trie()
    }
}

/// The kind of a word and its length in characters. The last one may be the beginning of a
/// character: it may come where one that it begins may.
fn kind(bytes: &[u8]) -> Option<(usize, usize)> {
    let (whole, rest) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, 0),
        Err(e) if e.error_len().is_none() => {
            let whole = &bytes[..e.valid_up_to()];
            (std::str::from_utf8(whole).ok()?, 1)
        }
        Err(_) => return None,
    };
    let length = whole.chars().count() + rest;
    let mut kind = 0;
    for byte in bytes.iter().filter(|b| b.is_ascii()) {
        kind = kind.max(KINDS.iter().position(|has| has(*byte))?);
    }
    (length <= LONGEST).then_some((kind, length))
}

/// Asks the lexer which lengths of words may come, in at most so many steps. They are taken
/// for the first kind, which has most of the words; the others make do with them.
fn judge(rec: &mut ParserRecognizer<'_>, most: usize) -> [Verdict; KINDS.len()] {
    let start = rec.lexer_state();
    let lexer = rec.lexer_mut();
    if lexer.subsume_possible(start) {
        for (at, may) in TOGETHER.into_iter().enumerate().rev() {
            if lexer.check_subsume(start, at, FUEL, None).unwrap_or(false) {
                let only = may == LONGEST;
                return [(); KINDS.len()].map(|()| Verdict { may, only });
            }
        }
    }
    let mut steps = Vec::new();
    std::array::from_fn(|kind| {
        let most = if kind == 0 { most } else { 0 };
        lengths(rec, &mut steps, most, kind)
    })
}

/// Follows all words of a kind at once, by a character at a time, until it would take a step
/// too many.
fn lengths(
    rec: &mut ParserRecognizer<'_>,
    steps: &mut Vec<Step>,
    most: usize,
    kind: usize,
) -> Verdict {
    rec.trie_started("words");
    let mut parsed = 0;
    let verdict = follow(rec, steps, most, kind, &mut parsed);
    rec.pop_bytes(parsed);
    rec.trie_finished();
    verdict
}

/// Does what lengths says. Where a lexeme ends in the same way with every word of a length, it
/// goes on behind that length with the parser, which has parsed so many bytes.
fn follow(
    rec: &mut ParserRecognizer<'_>,
    steps: &mut Vec<Step>,
    most: usize,
    kind: usize,
    parsed: &mut usize,
) -> Verdict {
    let mut states = vec![rec.lexer_state()];
    for length in 1..=LONGEST {
        let shorter = |only| Verdict {
            may: length - 1,
            only,
        };
        let (mut next, mut ends) = (Vec::new(), Vec::new());
        let mut dies = false;
        for &from in &states {
            let at = match steps.iter().position(|s| s.from == from) {
                Some(at) => at,
                None if steps.len() < most => {
                    steps.push(Step {
                        from,
                        kinds: step(rec, from),
                    });
                    steps.len() - 1
                }
                None => return shorter(false),
            };
            let moves = &steps[at].kinds[kind];
            if moves.unsure {
                return shorter(false);
            }
            dies |= moves.dies;
            moves.to.iter().for_each(|&to| add(&mut next, to));
            moves.ends.iter().for_each(|&end| add(&mut ends, end));
        }
        if ends.len() == 1 && next.is_empty() && !dies {
            // One word of that length speaks for all.
            while *parsed < length {
                if !rec.try_push_byte(EXAMPLE) {
                    return shorter(*parsed == length - 1);
                }
                *parsed += 1;
            }
            states = vec![rec.lexer_state()];
            continue;
        }
        if dies || !ends.is_empty() {
            return shorter(next.is_empty() && ends.is_empty());
        }
        if next == states {
            break;
        }
        states = next;
    }
    // There are no longer words.
    Verdict {
        may: LONGEST,
        only: true,
    }
}

/// Goes on from a state by each character.
fn step(rec: &mut ParserRecognizer<'_>, from: StateID) -> [Moves; KINDS.len()] {
    let mut moves = Moves::default();
    // States within characters, with the bytes that may follow.
    let mut within = Vec::new();
    for lead in 0xc2..=0xf4 {
        if let Some(to) = moves.go(rec, from, lead, false) {
            let (low, high, more) = continuation(lead);
            add(&mut within, (to, low, high, more));
        }
    }
    let mut at = 0;
    while let Some(&(state, low, high, more)) = within.get(at) {
        for byte in low..=high {
            match moves.go(rec, state, byte, more == 0) {
                Some(to) if more == 0 => add(&mut moves.to, to),
                Some(to) => add(&mut within, (to, 0x80, 0xbf, more - 1)),
                None => {}
            }
        }
        at += 1;
        moves.unsure |= within.len() > MAX_WITHIN;
    }
    KINDS.map(|has| {
        for byte in (0..0x80).filter(|&b| has(b)) {
            if let Some(to) = moves.go(rec, from, byte, true) {
                add(&mut moves.to, to);
            }
        }
        moves.clone()
    })
}

/// The bytes that may follow the first one of a character in UTF-8, and how many more come.
fn continuation(lead: u8) -> (u8, u8, usize) {
    match lead {
        0xe0 => (0xa0, 0xbf, 1),
        0xed => (0x80, 0x9f, 1),
        0xf0 => (0x90, 0xbf, 2),
        0xf4 => (0x80, 0x8f, 2),
        ..=0xdf => (0x80, 0xbf, 0),
        ..=0xef => (0x80, 0xbf, 1),
        _ => (0x80, 0xbf, 2),
    }
}

impl Moves {
    /// The state behind a byte, the last one of a character or not, if the lexeme goes on.
    fn go(
        &mut self,
        rec: &mut ParserRecognizer<'_>,
        from: StateID,
        byte: u8,
        last: bool,
    ) -> Option<StateID> {
        if self.unsure {
            return None; // nothing else matters
        }
        let lexer = rec.lexer_mut();
        let to = lexer.transition_start_state(from, Some(byte), &None);
        if to.has_lowest_match() {
            // Of a lexeme that has looked ahead, the parser reads some bytes again.
            if last && lexer.possible_hidden_len(from) == 0 && lexer.possible_hidden_len(to) == 0 {
                add(&mut self.ends, to);
            } else {
                self.unsure = true;
            }
        } else if !to.is_dead() {
            return Some(to);
        } else if lexer.try_lexeme_end(from).is_error() {
            self.dies = true;
        } else {
            self.unsure = true; // the next lexeme may begin with the byte
        }
        None
    }
}

fn add<T: PartialEq>(all: &mut Vec<T>, one: T) {
    if !all.contains(&one) {
        all.push(one);
    }
}

#[cfg(test)]
pub(crate) mod tests;
