//! Which added tokens exist, and which of them are control tokens.

use crate::guard::Failure;
use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

/// HTML elements. Gemma lists their tags as added tokens, though in its training
/// data they are ordinary text.
const HTML: &[&str] = &[
    "a",
    "b",
    "blockquote",
    "br",
    "caption",
    "code",
    "col",
    "dd",
    "del",
    "div",
    "dl",
    "dt",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "ins",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "tt",
    "u",
    "ul",
];

/// Reports whether an added token steers the model, so that outside text must
/// never spell it. Special tokens do. So do added tokens that tokenizer.json
/// calls non-special but that have the form of a tag: Qwen's `<tool_response>`
/// and `<|fim_prefix|>` are such. The rest (runs of spaces, HTML) is text.
pub fn is_control(content: &str, special: bool) -> bool {
    if special {
        return true;
    }
    let inner = match content.as_bytes() {
        [b'<', .., b'>'] | [b'[', .., b']'] => &content[1..content.len() - 1],
        _ => return false,
    };
    let name = inner.strip_prefix('/').unwrap_or(inner);
    !(name.is_empty() || content.starts_with('<') && HTML.contains(&name))
}

/// Adds the tokens that tokenizer_config.json names and tokenizer.json does not
/// list, as transformers does: the end-of-turn tokens of Yi and InternLM2 exist
/// only there. No token gets a new id.
pub fn apply_config(hf: &mut Tokenizer, config: &Value) -> Result<(), Failure> {
    let mut wanted: Vec<AddedToken> = Vec::new();
    if let Some(decoder) = config
        .get("added_tokens_decoder")
        .and_then(Value::as_object)
    {
        let mut entries: Vec<(u32, &Value)> = decoder
            .iter()
            .filter_map(|(id, v)| Some((id.parse().ok()?, v)))
            .collect();
        entries.sort_by_key(|(id, _)| *id);
        for (id, entry) in entries {
            let Some(token) = described(entry, false) else {
                continue;
            };
            if hf.token_to_id(&token.content) == Some(id) {
                wanted.push(token);
            }
        }
    }
    for (key, value) in config.as_object().into_iter().flatten() {
        let values = match value {
            Value::Array(list) if key == "additional_special_tokens" => list.as_slice(),
            _ if key.ends_with("_token") => std::slice::from_ref(value),
            _ => continue,
        };
        // transformers adds these only where nothing lists them yet; tokens of
        // the decoder above it adds again, so that their flags win.
        let named = values.iter().filter_map(|v| described(v, true));
        wanted.extend(named.filter(|token| {
            let listed = hf
                .get_added_vocabulary()
                .get_vocab()
                .contains_key(&token.content);
            !listed && hf.token_to_id(&token.content).is_some()
        }));
    }
    hf.add_tokens(wanted)?;
    Ok(())
}

/// Reads a token that is written as a string or as an object.
fn described(value: &Value, special: bool) -> Option<AddedToken> {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let content = value.as_str().or_else(|| value.get("content")?.as_str())?;
    if content.is_empty() {
        return None;
    }
    let special = flag("special").unwrap_or(special) || special;
    Some(
        AddedToken::from(content, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}

/// Returns the text of a token that tokenizer_config.json names under key.
pub fn named(config: &Value, key: &str) -> Option<String> {
    described(config.get(key)?, true).map(|t| t.content)
}

#[cfg(test)]
mod tests {
    use super::is_control;

    #[test]
    fn control_tokens_are_special_or_look_like_tags() {
        for text in [
            "<tool_response>",
            "</think>",
            "<|fim_prefix|>",
            "[TOOL_CALLS]",
            "<unused7>",
        ] {
            assert!(is_control(text, false), "{text}");
        }
        for text in [
            "   ",
            "\n\n",
            "<h1>",
            "</td>",
            "<",
            "<>",
            "[]",
            "hello",
            "\u{2581}\u{2581}",
        ] {
            assert!(!is_control(text, false), "{text}");
        }
        assert!(is_control("hello", true));
    }
}
