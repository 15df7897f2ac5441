//! HF tokenizers, with control over which text may become a control token.

use crate::added;
use crate::guard::Failure;
use crate::table::{self, Table, CONTROL};
use serde_json::{json, Value};
use std::sync::OnceLock;
use tokenizers::{
    AddedToken, AddedVocabulary, Model, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizer, PreTokenizerWrapper, Tokenizer as Hf,
};

/// The largest vocabulary that is loaded. The largest in use has 262,144 tokens.
const MAX_VOCAB: usize = 1 << 22;
/// The longest text that is encoded, some two million tokens. The library keeps
/// offsets for every byte: 32 MiB of text were seen to take 6 GiB.
pub const MAX_TEXT: usize = 8 << 20;

/// A loaded tokenizer. Its methods may run on any number of threads at once.
pub struct Tokenizer {
    hf: Hf,
    /// The added tokens without the control tokens.
    plain: AddedVocabulary,
    /// For text that does not start the input: no prefix that only the start gets.
    inner: Pipeline,
    /// For text inside a word: no prefix at all.
    bare: Pipeline,
    pub table: Table,
    bos: Option<u32>,
    info: OnceLock<String>,
}

/// What happens to text before the model sees it.
struct Pipeline {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
}

impl Tokenizer {
    /// Loads a tokenizer.json and, when given, the tokenizer_config.json beside it.
    pub fn load(source: &[u8], config: Option<&[u8]>) -> Result<Tokenizer, Failure> {
        let mut hf = Hf::from_bytes(source).map_err(|e| refuse!("tokenizer.json: {e}"))?;
        let config: Value = match config {
            Some(bytes) => {
                serde_json::from_slice(bytes).map_err(|e| refuse!("tokenizer_config.json: {e}"))?
            }
            None => Value::Null,
        };
        added::apply_config(&mut hf, &config)?;

        let size = hf
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1);
        if size == 0 || size > MAX_VOCAB {
            return Err(refuse!(
                "tokenizer.json: {size} token ids, want 1 to {MAX_VOCAB}"
            ));
        }
        let plain = without_control(&hf)?;
        let control = |id: u32| is_control(&hf, id);
        let table = table::build(&hf, size, control);
        let parts = (
            serde_json::to_value(hf.get_normalizer())?,
            serde_json::to_value(hf.get_pre_tokenizer())?,
        );
        let inner = Pipeline::edited(&parts, &never_first)?;
        let bare = Pipeline::edited(&parts, &no_prefix)?;
        let bos = leading_token(&hf, &config);
        let info = OnceLock::new();
        Ok(Tokenizer {
            hf,
            plain,
            inner,
            bare,
            table,
            bos,
            info,
        })
    }

    /// Encodes text. Where special is set, literals of control tokens become
    /// those tokens; otherwise nothing in the text does.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Failure> {
        check_length(text)?;
        let mut ids = Vec::with_capacity(text.len() / 3);
        let (norm, pre) = (self.hf.get_normalizer(), self.hf.get_pre_tokenizer());
        if special {
            self.run(
                self.hf.get_added_vocabulary(),
                norm,
                pre,
                text,
                true,
                &mut ids,
            )?;
        } else {
            self.run(&self.plain, norm, pre, text, false, &mut ids)?;
        }
        Ok(ids)
    }

    /// Encodes text in which a control token counts only where its literal lies
    /// outside all of the byte ranges in plain, which must be in order.
    pub fn encode_spans(&self, text: &str, plain: &[(usize, usize)]) -> Result<Vec<u32>, Failure> {
        check_length(text)?;
        if plain.is_empty() {
            return self.encode(text, true);
        }
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut start = 0;
        for (from, to, id) in self.controls(text) {
            let next = plain.partition_point(|&(_, end)| end <= from);
            if plain.get(next).is_some_and(|&(begin, _)| begin < to) {
                continue;
            }
            self.encode_piece(text, start, from, &mut ids)?;
            ids.push(id);
            start = to;
        }
        self.encode_piece(text, start, text.len(), &mut ids)?;
        Ok(ids)
    }

    fn encode_piece(
        &self,
        text: &str,
        from: usize,
        to: usize,
        ids: &mut Vec<u32>,
    ) -> Result<(), Failure> {
        if from == to {
            return Ok(());
        }
        let (norm, pre) = match from {
            0 => (self.hf.get_normalizer(), self.hf.get_pre_tokenizer()),
            _ => (
                self.inner.normalizer.as_ref(),
                self.inner.pre_tokenizer.as_ref(),
            ),
        };
        self.run(&self.plain, norm, pre, &text[from..to], false, ids)
    }

    /// Encodes the bytes of a constrained text that go on where other text
    /// stopped: no control tokens and no prefix.
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>, Failure> {
        let mut ids = Vec::new();
        let (norm, pre) = (
            self.bare.normalizer.as_ref(),
            self.bare.pre_tokenizer.as_ref(),
        );
        self.run(&self.plain, norm, pre, text, false, &mut ids)?;
        Ok(ids)
    }

    /// Lists the control tokens that text spells: byte range and id. The range
    /// includes the white space that the token takes with it.
    fn controls(&self, text: &str) -> Vec<(usize, usize, u32)> {
        let added = self.hf.get_added_vocabulary();
        let split = added.extract_and_normalize::<NormalizerWrapper>(None, text);
        let pieces = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let found = pieces.into_iter().filter_map(|(_, (from, to), tokens)| {
            let id = tokens.as_ref()?.first()?.id;
            self.table.flag(id, CONTROL).then_some((from, to, id))
        });
        found.collect()
    }

    fn run(
        &self,
        added: &AddedVocabulary,
        normalizer: Option<&NormalizerWrapper>,
        pre_tokenizer: Option<&PreTokenizerWrapper>,
        text: &str,
        special: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), Failure> {
        let mut split = added.extract_and_normalize(normalizer, text);
        if let Some(pre_tokenizer) = pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut split)?;
        }
        for (piece, _, tokens) in split.get_splits(OffsetReferential::Normalized, OffsetType::None)
        {
            match tokens {
                Some(tokens) => ids.extend(tokens.iter().map(|t| t.id)),
                None if special => {
                    ids.extend(self.hf.get_model().tokenize(piece)?.iter().map(|t| t.id))
                }
                None => self.model_plain(piece, ids)?,
            }
        }
        Ok(())
    }

    /// Runs the model over text that must not become a control token. The added
    /// vocabulary is not the only way to one: a Unigram model finds `</s>` in
    /// its own vocabulary, and BPE does where it ignores merges. Such a token is
    /// cut after its first character and both sides are encoded apart.
    fn model_plain(&self, piece: &str, ids: &mut Vec<u32>) -> Result<(), Failure> {
        let tokens = self.hf.get_model().tokenize(piece)?;
        let mut cuts = vec![0];
        for token in &tokens {
            let (from, to) = token.offsets;
            // An unknown token is a control token too, but spells other text.
            if !self.table.flag(token.id, CONTROL)
                || piece.get(from..to) != self.literal(token.id).as_deref()
            {
                continue;
            }
            match piece[from..to].chars().next().map(|c| from + c.len_utf8()) {
                Some(cut) if cut < to => cuts.push(cut),
                _ => return Err(refuse!("text spells the control token {:?}", token.value)),
            }
        }
        if cuts.len() == 1 {
            ids.extend(tokens.iter().map(|t| t.id));
            return Ok(());
        }
        cuts.push(piece.len());
        for pair in cuts.windows(2) {
            self.model_plain(&piece[pair[0]..pair[1]], ids)?;
        }
        Ok(())
    }

    /// Decodes ids; unknown ids add nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Failure> {
        Ok(self.hf.decode(ids, skip_special)?)
    }

    pub fn id(&self, text: &str) -> Option<u32> {
        self.hf.token_to_id(text)
    }

    /// The text of a token, as tokenizer.json writes it.
    pub fn literal(&self, id: u32) -> Option<String> {
        let added = self
            .hf
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .get(&id);
        added
            .map(|t| t.content.clone())
            .or_else(|| self.hf.id_to_token(id))
    }

    /// Describes the tokenizer as JSON: sizes, decoder and added tokens by id.
    pub fn info(&self) -> &str {
        self.info.get_or_init(|| {
            let decoder = self.hf.get_added_vocabulary().get_added_tokens_decoder();
            let mut added: Vec<(&u32, &AddedToken)> = decoder.iter().collect();
            added.sort_by_key(|(id, _)| **id);
            let added: Vec<Value> = added
                .into_iter()
                .map(|(id, t)| {
                    json!({"id": id, "text": t.content, "special": t.special,
                        "control": self.table.flag(*id, CONTROL), "lstrip": t.lstrip,
                        "rstrip": t.rstrip, "singleWord": t.single_word})
                })
                .collect();
            let (join, strip, first) = match self.table.join {
                table::Join::Bytes => ("bytes", 0, false),
                table::Join::Pieces { strip, first } => ("pieces", strip, first),
                table::Join::Other => ("other", 0, false),
            };
            json!({"bos": self.bos, "join": join, "strip": strip, "first": first, "added": added})
                .to_string()
        })
    }
}

impl Pipeline {
    /// Copies the normalizer and the pre-tokenizer, each step changed by edit;
    /// a step that becomes null goes.
    fn edited(parts: &(Value, Value), edit: &dyn Fn(&mut Value)) -> Result<Pipeline, Failure> {
        let (mut normalizer, mut pre_tokenizer) = parts.clone();
        edit_steps(&mut normalizer, edit);
        edit_steps(&mut pre_tokenizer, edit);
        Ok(Pipeline {
            normalizer: serde_json::from_value(normalizer)?,
            pre_tokenizer: serde_json::from_value(pre_tokenizer)?,
        })
    }
}

fn edit_steps(part: &mut Value, edit: &dyn Fn(&mut Value)) {
    for key in ["normalizers", "pretokenizers"] {
        if let Some(Value::Array(steps)) = part.get_mut(key) {
            steps.iter_mut().for_each(|step| edit_steps(step, edit));
            steps.retain(|step| !step.is_null());
            return;
        }
    }
    edit(part);
}

fn never_first(step: &mut Value) {
    if step["type"] == "Metaspace" && step["prepend_scheme"] == "first" {
        step["prepend_scheme"] = json!("never");
    }
}

fn no_prefix(step: &mut Value) {
    match step["type"].as_str() {
        Some("Prepend") => *step = Value::Null,
        Some("Metaspace") => step["prepend_scheme"] = json!("never"),
        Some("ByteLevel") => step["add_prefix_space"] = json!(false),
        _ => {}
    }
}

fn is_control(hf: &Hf, id: u32) -> bool {
    let tokens = hf.get_added_vocabulary().get_added_tokens_decoder();
    tokens
        .get(&id)
        .is_some_and(|t| added::is_control(&t.content, t.special))
}

/// Copies the added vocabulary so that it finds no control token in text.
fn without_control(hf: &Hf) -> Result<AddedVocabulary, Failure> {
    let mut plain = hf.get_added_vocabulary().clone();
    let tags: Vec<AddedToken> = plain
        .get_added_tokens_decoder()
        .values()
        .filter(|t| !t.special && added::is_control(&t.content, false))
        .map(|t| t.clone().special(true))
        .collect();
    plain.add_tokens(tags, hf.get_model(), hf.get_normalizer())?;
    plain.set_encode_special_tokens(true);
    Ok(plain)
}

/// Finds the token that the tokenizer puts before a text of its own accord.
fn leading_token(hf: &Hf, config: &Value) -> Option<u32> {
    match config.get("add_bos_token").and_then(Value::as_bool) {
        Some(false) => return None,
        Some(true) => {
            if let Some(id) = added::named(config, "bos_token").and_then(|t| hf.token_to_id(&t)) {
                return Some(id);
            }
        }
        None => {}
    }
    let whole = hf.encode("a", true).ok()?.get_ids().to_vec();
    let text = hf.encode("a", false).ok()?.get_ids().to_vec();
    let at = whole.windows(text.len().max(1)).position(|w| w == text)?;
    whole[..at].first().copied()
}

fn check_length(text: &str) -> Result<(), Failure> {
    if text.len() > MAX_TEXT {
        return Err(refuse!("text of {} bytes, at most {MAX_TEXT}", text.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Metaspace BPE with the pieces of "ab cd" and a non-special tag.
    fn small() -> Tokenizer {
        let mark = "\u{2581}";
        let mut vocab = serde_json::Map::new();
        for piece in [
            "<unk>", "<s>", "</s>", "<", "/", "s", ">", "a", "b", mark, "<tag>", "t", "g",
        ] {
            vocab.insert(piece.into(), json!(vocab.len()));
        }
        let added = |id: u32, text: &str, special: bool| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": special})
        };
        let space = json!({"type": "Metaspace", "replacement": mark, "prepend_scheme": "first", "split": false});
        let file = json!({"version": "1.0", "normalizer": null, "pre_tokenizer": space,
            "post_processor": null, "decoder": space,
            "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true),
                added(10, "<tag>", false)],
            "model": {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>",
                "ignore_merges": true, "fuse_unk": false, "byte_fallback": false}});
        Tokenizer::load(file.to_string().as_bytes(), None).unwrap()
    }

    #[test]
    fn special_text_is_what_the_library_itself_encodes() {
        let t = small();
        for text in [
            "",
            "a b",
            "<s>a b</s>",
            "a<tag>b",
            "</s></s>",
            " a ",
            "zz",
            "<s> a",
        ] {
            let want = t.hf.encode(text, false).unwrap().get_ids().to_vec();
            assert_eq!(t.encode(text, true).unwrap(), want, "{text:?}");
        }
    }

    #[test]
    fn a_model_that_spells_a_control_token_is_cut_short() {
        let t = small();
        // As one word: BPE that ignores merges takes it from the vocabulary.
        assert_eq!(t.hf.get_model().tokenize("</s>").unwrap()[0].id, 2);
        assert_eq!(t.encode_bare("</s>").unwrap(), [3, 4, 5, 6]);
        assert_eq!(t.encode_bare("<tag>").unwrap(), [3, 11, 7, 12, 6]);
        // An unknown character is no control token.
        assert_eq!(t.encode_bare("z").unwrap(), [0]);
    }

    #[test]
    fn only_the_start_gets_the_prefix() {
        let t = small();
        assert_eq!(t.encode_spans("a<s>b", &[(0, 1)]).unwrap(), [9, 7, 1, 8]);
        assert_eq!(t.encode_bare("a").unwrap(), [7]);
    }
}
