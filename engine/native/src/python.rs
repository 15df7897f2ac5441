//! Python's way of writing values: `str()`, `repr()` and `json.dumps`. Chat
//! templates are written for it, and a prompt that differs by a space has other
//! tokens.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// How deep a value may nest when it is written. JSON input ends at 128.
const MAX_DEPTH: usize = 200;
/// The most bytes that one value is written in.
const MAX_BYTES: usize = 8 << 20;

fn refused(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

/// Writes a float as Python's repr does: shortest digits, exponent form below
/// 1e-4 and from 1e16 on.
pub fn float(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{f:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{f}");
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn as_float(value: &Value) -> Option<f64> {
    if value.kind() != ValueKind::Number || value.is_integer() {
        return None;
    }
    f64::try_from(value.clone()).ok()
}

/// Writes a value as `str()` does.
pub fn string(state: &State, value: &Value) -> Result<String, Error> {
    if let Some(f) = as_float(value) {
        return Ok(float(f));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Map => {
            let mut out = String::new();
            repr(&mut out, state, value, 0)?;
            Ok(out)
        }
        _ => Ok(value.to_string()),
    }
}

fn nested(depth: usize, out: &str) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(refused(format!("value nests deeper than {MAX_DEPTH}")));
    }
    if out.len() > MAX_BYTES {
        return Err(refused(format!("value takes more than {MAX_BYTES} bytes")));
    }
    Ok(())
}

/// The items of a list or the keys of a map. An iterator that ran out of fuel
/// is an error.
fn items(value: &Value) -> Result<Vec<Value>, Error> {
    value.try_iter()?.checked().collect()
}

fn repr(out: &mut String, state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    nested(depth, out)?;
    state.consume_fuel(1)?;
    if let Some(f) = as_float(value) {
        out.push_str(&float(f));
        return Ok(());
    }
    match value.kind() {
        ValueKind::Map => {
            out.push('{');
            for (i, key) in items(value)?.into_iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                repr(out, state, &key, depth + 1)?;
                out.push_str(": ");
                repr(out, state, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() {
                ('(', ')')
            } else {
                ('[', ']')
            };
            out.push(open);
            let mut count = 0;
            for item in items(value)? {
                out.push_str(if count > 0 { ", " } else { "" });
                repr(out, state, &item, depth + 1)?;
                count += 1;
            }
            out.push_str(if value.is_tuple() && count == 1 {
                ","
            } else {
                ""
            });
            out.push(close);
        }
        _ => out.push_str(&format!("{value:?}")),
    }
    Ok(())
}

/// The options of `json.dumps` that chat templates use.
pub struct Json {
    pub ascii: bool,
    pub indent: Option<String>,
    pub item: String,
    pub key: String,
    pub sort: bool,
}

impl Json {
    /// Writes a value as `json.dumps` does. What it writes is paid in fuel.
    pub fn dumps(&self, state: &State, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.write(&mut out, state, value, 0)?;
        state.consume_fuel(out.len() as u64 / 64)?;
        Ok(out)
    }

    fn write(
        &self,
        out: &mut String,
        state: &State,
        value: &Value,
        depth: usize,
    ) -> Result<(), Error> {
        nested(depth, out)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.text(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let mut list = items(value)?.into_iter();
                self.container(out, depth, ('[', ']'), |out, first, json| {
                    let Some(item) = list.next() else {
                        return Ok(false);
                    };
                    state.consume_fuel(1)?;
                    json.separate(out, depth, first);
                    json.write(out, state, &item, depth + 1)?;
                    Ok(true)
                })?;
            }
            ValueKind::Map => {
                let mut keys = items(value)?;
                if self.sort {
                    keys.sort();
                }
                let mut keys = keys.into_iter();
                self.container(out, depth, ('{', '}'), |out, first, json| {
                    let Some(key) = keys.next() else {
                        return Ok(false);
                    };
                    state.consume_fuel(1)?;
                    json.separate(out, depth, first);
                    json.name(out, &key)?;
                    out.push_str(&json.key);
                    json.write(out, state, &value.get_item(&key)?, depth + 1)?;
                    Ok(true)
                })?;
            }
            kind => return Err(refused(format!("{kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn container(
        &self,
        out: &mut String,
        depth: usize,
        (open, close): (char, char),
        mut item: impl FnMut(&mut String, bool, &Json) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        out.push(open);
        let mut first = true;
        while item(out, first, self)? {
            first = false;
        }
        if !first {
            self.line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn separate(&self, out: &mut String, depth: usize, first: bool) {
        if !first {
            out.push_str(&self.item);
        }
        self.line(out, depth + 1);
    }

    fn line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            for _ in 0..depth {
                out.push_str(indent);
            }
        }
    }

    fn name(&self, out: &mut String, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.text(out, key.as_str().unwrap_or_default()),
            ValueKind::None => out.push_str("\"null\""),
            ValueKind::Bool => out.push_str(if key.is_true() {
                "\"true\""
            } else {
                "\"false\""
            }),
            ValueKind::Number => self.text(out, &number(key)),
            kind => return Err(refused(format!("keys must be strings, not {kind}"))),
        }
        Ok(())
    }

    fn text(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
                c if self.ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn number(value: &Value) -> String {
    match as_float(value) {
        Some(f) if f.is_nan() => "NaN".into(),
        Some(f) if f.is_infinite() => if f > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Some(f) => float(f),
        None => value.to_string(),
    }
}

/// Splits text where Python's `str.splitlines` does.
pub fn lines(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let ends = matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        if !ends {
            continue;
        }
        found.push(&text[start..at]);
        start = at + c.len_utf8();
        if c == '\r' && chars.peek().is_some_and(|&(_, next)| next == '\n') {
            chars.next();
            start += 1;
        }
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (f, want) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1e22, "1e+22"),
            (1.5e-9, "1.5e-09"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.2345678901234567e300, "1.2345678901234567e+300"),
            (123456.789, "123456.789"),
            (f64::INFINITY, "inf"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(float(f), want);
        }
    }

    #[test]
    fn lines_end_where_python_ends_them() {
        assert_eq!(lines("a\r\nb\rc\nd\n"), ["a", "b", "c", "d"]);
        assert_eq!(lines("a\n\nb\u{2028}c"), ["a", "", "b", "c"]);
        assert!(lines("").is_empty());
    }
}
