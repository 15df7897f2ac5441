//! Chat templates: minijinja, plus what transformers adds to Jinja and where
//! minijinja differs from Python. Templates are untrusted downloads.

use crate::bounded::Bounded;
use crate::clock::{strftime, Now};
use crate::guard::Failure;
use crate::python::{self, Json};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;
use serde_json::Value as JsonValue;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::time::Duration;

/// How long a render may take. Fuel bounds what a template does, but minijinja
/// charges nothing for indexing, comparing and hashing long strings.
const DEADLINE: Duration = Duration::from_secs(10);
/// The memory that compiling or rendering may take; a render gets some for each
/// byte of its context too. Fuel does not bound the joining of lists.
const MEMORY: usize = 64 << 20;
const MEMORY_PER_BYTE: usize = 32;
/// The longest text that a render returns.
const MAX_OUTPUT: usize = 8 << 20;
/// The longest template and the longest context.
const MAX_SOURCE: usize = 256 << 10;
const MAX_CONTEXT: usize = 32 << 20;
/// The widest indent and the widest field that a template may ask for.
const MAX_WIDTH: usize = 4096;

const NAME: &str = "chat_template";

/// A compiled chat template.
pub struct Template {
    env: Environment<'static>,
    bounded: Bounded,
}

/// The work that a render may do, in fuel: one for an instruction or 64 bytes.
/// It grows with the context, of which each byte is worth two kilobytes of work
/// while it is small and 16 bytes when it is large. A message of a real template
/// takes some hundreds.
fn fuel(context: usize) -> u64 {
    let n = context as u64;
    (50_000 + 32 * n).min(2_000_000 + n / 4)
}

thread_local! {
    static NOW: RefCell<Now> = const { RefCell::new(Now {
        year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, weekday: 4, yearday: 1, offset: 0,
    }) };
}

/// The message of `raise_exception`.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl Template {
    /// Compiles a template. globals is a JSON object of the variables that
    /// every render sees unless its context has them.
    pub fn compile(source: &str, globals: &[u8]) -> Result<Template, Failure> {
        if source.len() > MAX_SOURCE {
            return Err(refuse!(
                "template of {} bytes, at most {MAX_SOURCE}",
                source.len()
            ));
        }
        let source = with_blocks(&source.replace("\r\n", "\n").replace('\r', "\n"));
        let globals: JsonValue = serde_json::from_slice(globals)?;
        let bounded = Bounded::default();
        let env = bounded.run(MEMORY, DEADLINE, move || {
            let mut env = environment()?;
            for (name, value) in globals.as_object().into_iter().flatten() {
                env.add_global(name.clone(), Value::from(Serde(value)));
            }
            env.add_template_owned(NAME, source).map_err(failure)?;
            Ok(env)
        })?;
        Ok(Template { env, bounded })
    }

    /// Renders the template with a JSON object as its variables.
    pub fn render(&self, context: &[u8], now: Now) -> Result<String, Failure> {
        if context.len() > MAX_CONTEXT {
            return Err(refuse!(
                "context of {} bytes, at most {MAX_CONTEXT}",
                context.len()
            ));
        }
        let mut env = self.env.clone();
        env.set_fuel(Some(fuel(context.len())));
        let memory = MEMORY + MEMORY_PER_BYTE * context.len();
        let mut context: JsonValue =
            serde_json::from_slice(context).map_err(|e| refuse!("template context: {e}"))?;
        if !context.is_object() {
            return Err(refuse!("template context: not an object"));
        }
        alias_reasoning(&mut context);
        self.bounded.run(memory, DEADLINE, move || {
            NOW.with(|n| *n.borrow_mut() = now);
            let mut out = Capped(Vec::new());
            let template = env.get_template(NAME).map_err(failure)?;
            let context = Value::from(Serde(&context));
            let done = template.render_captured_to(context, &mut out).map(drop);
            if out.0.len() > MAX_OUTPUT {
                return Err(refuse!("output of more than {MAX_OUTPUT} bytes"));
            }
            done.map_err(failure)?;
            Ok(String::from_utf8(out.0)?)
        })
    }
}

/// A writer that refuses to grow past the cap, and shows by its length that it did.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if self.0.len() > MAX_OUTPUT {
            return Err(io::Error::other("output too long"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Turns an error into the template's own message, or into minijinja's with
/// the line.
fn failure(error: Error) -> Failure {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return Failure::Raised(message.clone());
        }
        source = cause.source();
    }
    let line = error
        .line()
        .map(|l| format!(" (line {l})"))
        .unwrap_or_default();
    match error.detail() {
        Some(detail) => refuse!("{}: {detail}{line}", error.kind()),
        None => refuse!("{}{line}", error.kind()),
    }
}

/// Copies a message's reasoning to the other names that templates read it
/// under, as transformers 5 does before it renders.
fn alias_reasoning(context: &mut JsonValue) {
    let messages = context
        .get_mut("messages")
        .and_then(JsonValue::as_array_mut);
    for message in messages
        .into_iter()
        .flatten()
        .filter_map(JsonValue::as_object_mut)
    {
        let names = ["reasoning_content", "thinking", "reasoning"];
        let found = names
            .iter()
            .filter_map(|n| message.get(*n))
            .find(|v| !v.is_null())
            .cloned();
        let Some(reasoning) = found else { continue };
        if !message.contains_key("thinking") {
            message.shift_insert(0, "thinking".into(), reasoning.clone());
        }
        message.insert("reasoning_content".into(), reasoning);
    }
}

/// Writes transformers' `generation` blocks as `with` blocks, which are scopes
/// as they are.
fn with_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let inside = &tag[2..end];
        let word = inside
            .trim_start_matches(['-', '+'])
            .trim_end_matches(['-', '+'])
            .trim();
        match word {
            "generation" => out.push_str(&tag[..end + 2].replace("generation", "with")),
            "endgeneration" => out.push_str(&tag[..end + 2].replace("endgeneration", "endwith")),
            _ => {
                // The end that was found may stand in a string: go on after the start.
                out.push_str("{%");
                rest = &tag[2..];
                continue;
            }
        }
        rest = &tag[end + 2..];
    }
    out.push_str(rest);
    out
}

fn environment() -> Result<Environment<'static>, Failure> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    env.set_syntax(syntax.map_err(failure)?);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(method);
    env.set_formatter(format);
    env.add_filter("tojson", tojson);
    env.add_filter("indent", indent);
    env.add_filter("string", |state: &State, value: &Value| {
        python::string(state, value)
    });
    env.add_test("iterable", |value: &Value| match value.kind() {
        ValueKind::Undefined | ValueKind::String => true,
        kind => matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::Iterable),
    });
    env.add_function(
        "raise_exception",
        |message: &Value| -> Result<Value, Error> {
            let message = message.to_string();
            Err(Error::new(ErrorKind::InvalidOperation, message.clone())
                .with_source(Raised(message)))
        },
    );
    env.add_function("strftime_now", |format: &str| {
        NOW.with(|n| strftime(format, *n.borrow()))
    });
    env.remove_global("debug");
    for name in ["tools", "documents"] {
        env.add_global(name, Value::from(()));
    }
    env.add_global("add_generation_prompt", false);
    Ok(env)
}

fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => out.write_str(&python::string(state, value)?)?,
    }
    Ok(())
}

fn wide(width: usize) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("width {width}, at most {MAX_WIDTH}"),
    )
}

fn spaces(width: &Value) -> Result<String, Error> {
    if let Some(text) = width.as_str() {
        return if text.len() > MAX_WIDTH {
            Err(wide(text.len()))
        } else {
            Ok(text.into())
        };
    }
    let width = i64::try_from(width.clone())?.max(0) as usize;
    if width > MAX_WIDTH {
        return Err(wide(width));
    }
    Ok(" ".repeat(width))
}

fn tojson(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (positional, kwargs) = split_kwargs(&args)?;
    let option = |at: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = kwargs.get(name)?;
        let value = positional.get(at).cloned().or(named);
        Ok(value.filter(|v| !v.is_none() && !v.is_undefined()))
    };
    let ascii = option(0, "ensure_ascii")?.is_some_and(|v| v.is_true());
    let indent = option(1, "indent")?.map(|v| spaces(&v)).transpose()?;
    let separators = option(2, "separators")?;
    let sort = option(3, "sort_keys")?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    let (item, key) = match separators {
        Some(pair) => (text_at(&pair, 0)?, text_at(&pair, 1)?),
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    if item.len() > MAX_WIDTH || key.len() > MAX_WIDTH {
        return Err(wide(item.len().max(key.len())));
    }
    Json {
        ascii,
        indent,
        item,
        key,
        sort,
    }
    .dumps(state, value)
}

fn text_at(pair: &Value, at: usize) -> Result<String, Error> {
    let item = pair.get_item_by_index(at)?;
    match item.as_str() {
        Some(text) => Ok(text.into()),
        None => Err(Error::new(
            ErrorKind::InvalidOperation,
            "separators must be two strings",
        )),
    }
}

fn split_kwargs(args: &[Value]) -> Result<(&[Value], Kwargs), Error> {
    match args.split_last() {
        Some((last, before)) if last.is_kwargs() => Ok((before, Kwargs::try_from(last.clone())?)),
        _ => Ok((args, Kwargs::from_iter(Vec::<(&str, Value)>::new()))),
    }
}

/// Jinja's indent filter, whose lines and blank lines are Python's.
fn indent(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (positional, kwargs) = split_kwargs(&args)?;
    let option = |at: usize, name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = kwargs.get(name)?;
        Ok(positional.get(at).cloned().or(named))
    };
    let width = spaces(&option(0, "width")?.unwrap_or_else(|| Value::from(4)))?;
    let first = option(1, "first")?.is_some_and(|v| v.is_true());
    let blank = option(2, "blank")?.is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;

    let Some(text) = value.as_str() else {
        let detail = format!("indent needs a string, not {}", value.kind());
        return Err(Error::new(ErrorKind::InvalidOperation, detail));
    };
    // Jinja adds a newline before it splits, so that a last empty line counts.
    let text = text.to_owned() + "\n";
    let lines = python::lines(&text);
    state.consume_fuel(((text.len() + lines.len() * width.len()) / 64) as u64)?;
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        let pad = if i == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        out.push_str(if i > 0 { "\n" } else { "" });
        out.push_str(if pad { &width } else { "" });
        out.push_str(line);
    }
    Ok(out)
}

/// Python's methods of strings, dicts and lists. Work that minijinja-contrib
/// does not charge for is charged here.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let size = |v: &Value| v.as_str().map_or_else(|| v.len().unwrap_or(0), str::len);
    let work: usize = args.iter().map(size).sum::<usize>() + size(value);
    state.consume_fuel(work as u64 / 32)?;
    match (value.as_str(), name) {
        (Some(text), "format") => check_fields(text)?,
        // A list of one slot for each byte, in the worst case.
        (Some(text), "split" | "splitlines") => state.consume_fuel(text.len() as u64)?,
        (None, "count") => state.consume_fuel(work as u64)?,
        _ => {}
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

/// Refuses a format string whose fields ask for a great width.
fn check_fields(format: &str) -> Result<(), Error> {
    let mut open = 0usize;
    let mut number = 0usize;
    for c in format.chars() {
        match c {
            '{' => open += 1,
            '}' => open = open.saturating_sub(1),
            _ => {}
        }
        number = match c.to_digit(10) {
            Some(digit) if open > 0 => number.saturating_mul(10).saturating_add(digit as usize),
            _ => 0,
        };
        if number > MAX_WIDTH {
            return Err(wide(number));
        }
    }
    Ok(())
}
