//! What each token adds to the text, so that Go can decode a stream without a
//! call per token.

use serde_json::Value;
use std::collections::HashMap;
use tokenizers::Tokenizer;

/// The token exists.
pub const PRESENT: u8 = 1;
/// Outside text must never spell the token.
pub const CONTROL: u8 = 2;
/// Decoding leaves the token out when special tokens are skipped.
pub const SKIPPED: u8 = 4;
/// The token is one byte, written `<0x0A>`, of a byte-fallback vocabulary.
pub const BYTE: u8 = 8;

/// How the tokenizer's decoder joins tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Join {
    /// The bytes in a row are UTF-8.
    Bytes,
    /// Tokens are text, except for those marked BYTE. `strip` spaces at the
    /// start of the text are left out; `first` leaves out every space of the
    /// first token.
    Pieces { strip: usize, first: bool },
    /// Only the library's own decoder knows.
    Other,
}

/// The table of a whole vocabulary. Token i is data[offsets[i]..offsets[i+1]].
pub struct Table {
    pub data: Vec<u8>,
    pub offsets: Vec<u32>,
    pub flags: Vec<u8>,
    pub join: Join,
}

impl Table {
    pub fn bytes(&self, id: usize) -> &[u8] {
        match self.offsets.get(id..id + 2) {
            Some(&[from, to]) => &self.data[from as usize..to as usize],
            _ => &[],
        }
    }

    pub fn flag(&self, id: u32, flag: u8) -> bool {
        self.flags.get(id as usize).is_some_and(|f| f & flag != 0)
    }
}

/// The rules by which one token's bytes follow from its name.
#[derive(Default)]
struct Rules {
    byte_level: bool,
    byte_fallback: bool,
    replace: Vec<(String, String)>,
    strip: usize,
    first: bool,
    fused: bool,
    other: bool,
}

impl Rules {
    fn read(decoder: &Value) -> Rules {
        let mut rules = Rules::default();
        let steps = match decoder["type"].as_str() {
            Some("Sequence") => decoder["decoders"].as_array().cloned().unwrap_or_default(),
            Some(_) => vec![decoder.clone()],
            None => Vec::new(),
        };
        rules.other = steps.is_empty();
        let alone = steps.len() == 1;
        for step in &steps {
            rules.step(step, alone);
        }
        rules
    }

    /// Takes one step of a decoder. What does not hold token by token makes the
    /// whole decoder `other`.
    fn step(&mut self, step: &Value, alone: bool) {
        let text = |v: &Value| v.as_str().map(str::to_owned);
        match step["type"].as_str().unwrap_or_default() {
            "ByteLevel" if alone => self.byte_level = true,
            "Replace" if !self.byte_fallback && !self.fused => {
                match (text(&step["pattern"]["String"]), text(&step["content"])) {
                    (Some(from), Some(to)) if !from.is_empty() => self.replace.push((from, to)),
                    _ => self.other = true,
                }
            }
            "ByteFallback" if !self.fused => self.byte_fallback = true,
            "Fuse" => self.fused = true,
            "Strip" if self.fused && step["content"] == " " && step["stop"] == 0 => {
                self.strip += step["start"].as_u64().unwrap_or(0) as usize
            }
            "Metaspace" if alone => match text(&step["replacement"]) {
                Some(mark) => {
                    self.replace.push((mark, " ".into()));
                    self.first = step["prepend_scheme"] != "never";
                }
                None => self.other = true,
            },
            _ => self.other = true,
        }
    }

    fn bytes(&self, name: &str, chars: &HashMap<char, u8>) -> (Vec<u8>, u8) {
        if self.byte_level {
            let mapped: Option<Vec<u8>> = name.chars().map(|c| chars.get(&c).copied()).collect();
            return (mapped.unwrap_or_else(|| name.as_bytes().to_vec()), 0);
        }
        let mut text = name.to_owned();
        for (from, to) in &self.replace {
            text = text.replace(from, to);
        }
        if self.byte_fallback {
            if let Some(byte) = byte_token(&text) {
                return (vec![byte], BYTE);
            }
        }
        (text.into_bytes(), 0)
    }
}

fn byte_token(name: &str) -> Option<u8> {
    let hex = name.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok())?
}

/// The characters that stand for bytes in byte-level vocabularies (GPT-2's
/// table): printable Latin-1 stands for itself, the other bytes for the
/// characters from U+0100 on.
pub fn byte_chars() -> HashMap<char, u8> {
    let mut next = 0x100u32;
    let mut map = HashMap::new();
    for byte in 0..=255u8 {
        let c = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => byte as char,
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("a character below U+0200")
            }
        };
        map.insert(c, byte);
    }
    map
}

/// Builds the table of the ids below size. control holds the ids that outside
/// text must not spell.
pub fn build(hf: &Tokenizer, size: usize, control: impl Fn(u32) -> bool) -> Table {
    let decoder = serde_json::to_value(hf.get_decoder()).unwrap_or(Value::Null);
    let rules = Rules::read(&decoder);
    let chars = byte_chars();
    let added = hf.get_added_vocabulary();
    let mut table = Table {
        data: Vec::new(),
        offsets: Vec::with_capacity(size + 1),
        flags: Vec::with_capacity(size),
        join: Join::Other,
    };
    // The first token loses its marks only; a space of its own would stay, and
    // the table cannot tell the two apart.
    let mut own_space = false;
    for id in 0..size as u32 {
        table.offsets.push(table.data.len() as u32);
        let Some(name) = hf.id_to_token(id) else {
            table.flags.push(0);
            continue;
        };
        own_space |= name.contains(' ');
        let (bytes, mut flags) = rules.bytes(&name, &chars);
        flags |= PRESENT;
        flags |= if control(id) { CONTROL } else { 0 };
        flags |= if added.is_special_token(&name) {
            SKIPPED
        } else {
            0
        };
        table.data.extend_from_slice(&bytes);
        table.flags.push(flags);
    }
    table.offsets.push(table.data.len() as u32);
    table.join = match rules {
        _ if rules.other || (rules.first && own_space) => Join::Other,
        _ if rules.byte_level => Join::Bytes,
        _ => Join::Pieces {
            strip: rules.strip,
            first: rules.first,
        },
    };
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decoders_that_hold_token_by_token_are_recognized() {
        let llama = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        let rules = Rules::read(&llama);
        assert!(!rules.other && rules.byte_fallback && rules.strip == 1);
        let chars = byte_chars();
        assert_eq!(rules.bytes("\u{2581}a", &chars), (b" a".to_vec(), 0));
        assert_eq!(rules.bytes("<0x0A>", &chars), (vec![10], BYTE));
        for other in [
            json!(null),
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"},
                {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always"}]}),
        ] {
            assert!(Rules::read(&other).other, "{other}");
        }
    }

    #[test]
    fn the_byte_characters_cover_every_byte_once() {
        let chars = byte_chars();
        assert_eq!(chars.len(), 256);
        assert_eq!(chars[&'\u{120}'], b' ');
        assert_eq!(chars[&'\u{10a}'], b'\n');
    }
}
