//! The exported functions. Their contract is in `harmonyd_native.h`.

// The header states what each pointer must be.
#![allow(clippy::missing_safety_doc)]

use crate::clock::Now;
use crate::grammar::{Grammar, Matcher, Vocabulary};
use crate::guard::{caught, Failure};
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use std::ptr;
use std::slice;
use std::sync::Arc;

/// The statuses of the header.
const OK: i32 = 0;
const REFUSED: i32 = 1;
const RAISED: i32 = 2;
const PANICKED: i32 = 3;

/// Memory that the caller lends.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct View {
    ptr: *const u8,
    len: usize,
}

/// Memory that the caller owns and gives back to `hd_bytes_free`.
#[repr(C)]
pub struct Bytes {
    ptr: *mut u8,
    len: usize,
}

/// Token ids that the caller owns and gives back to `hd_ids_free`.
#[repr(C)]
pub struct Ids {
    ptr: *mut u32,
    len: usize,
}

/// A token table, borrowed from its tokenizer.
#[repr(C)]
pub struct TableView {
    data: *const u8,
    offsets: *const u32,
    flags: *const u8,
    tokens: usize,
}

impl View {
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() {
            &[]
        } else {
            slice::from_raw_parts(self.ptr, self.len)
        }
    }

    unsafe fn text<'a>(self) -> Result<&'a str, Failure> {
        std::str::from_utf8(self.bytes()).map_err(|e| refuse!("text is not UTF-8: {e}"))
    }
}

impl Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        let (ptr, len) = leaked(bytes);
        Bytes { ptr, len }
    }
}

impl Ids {
    fn from(ids: Vec<u32>) -> Ids {
        let (ptr, len) = leaked(ids);
        Ids { ptr, len }
    }
}

/// Hands a list over to the caller. An empty one has no address: Rust's stand-in
/// for it, such as 1, on a stack that Go copies would stop the process.
fn leaked<T>(list: Vec<T>) -> (*mut T, usize) {
    if list.is_empty() {
        return (ptr::null_mut(), 0);
    }
    let list = Box::leak(list.into_boxed_slice());
    (list.as_mut_ptr(), list.len())
}

/// The address of a list that stays Rust's, null where it is empty.
fn address<T>(list: &[T]) -> *const T {
    if list.is_empty() {
        return ptr::null();
    }
    list.as_ptr()
}

/// Runs f, stores its result in out and its failure in message.
unsafe fn call<T>(out: *mut T, message: *mut Bytes, f: impl FnOnce() -> Result<T, Failure>) -> i32 {
    let (status, text) = match caught(f) {
        Ok(value) => {
            out.write(value);
            return OK;
        }
        Err(Failure::Refused(text)) => (REFUSED, text),
        Err(Failure::Raised(text)) => (RAISED, text),
        Err(Failure::Panicked(text)) => (PANICKED, text),
    };
    message.write(Bytes::from(text.into_bytes()));
    status
}

/// Frees a handle; a panic while it goes leaks it.
unsafe fn release<T>(handle: *mut T) {
    if !handle.is_null() {
        let _ = caught(|| {
            drop(Box::from_raw(handle));
            Ok(())
        });
    }
}

fn boxed<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

#[no_mangle]
pub unsafe extern "C" fn hd_bytes_free(bytes: Bytes) {
    if !bytes.ptr.is_null() {
        drop(Box::from_raw(ptr::slice_from_raw_parts_mut(
            bytes.ptr, bytes.len,
        )));
    }
}

#[no_mangle]
pub unsafe extern "C" fn hd_ids_free(ids: Ids) {
    if !ids.ptr.is_null() {
        drop(Box::from_raw(ptr::slice_from_raw_parts_mut(
            ids.ptr, ids.len,
        )));
    }
}

#[no_mangle]
pub unsafe extern "C" fn hd_tokenizer_new(
    source: View,
    config: View,
    out: *mut *mut Arc<Tokenizer>,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || {
        let config = (!config.ptr.is_null()).then(|| config.bytes());
        Ok(boxed(Arc::new(Tokenizer::load(source.bytes(), config)?)))
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_tokenizer_free(tokenizer: *mut Arc<Tokenizer>) {
    release(tokenizer)
}

#[no_mangle]
pub unsafe extern "C" fn hd_tokenizer_info(
    tokenizer: *const Arc<Tokenizer>,
    out: *mut View,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || {
        let info = (*tokenizer).info().as_bytes();
        Ok(View {
            ptr: address(info),
            len: info.len(),
        })
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_tokenizer_table(tokenizer: *const Arc<Tokenizer>) -> TableView {
    let tokenizer: &Tokenizer = &*tokenizer;
    let table = &tokenizer.table;
    TableView {
        data: address(&table.data),
        offsets: address(&table.offsets),
        flags: address(&table.flags),
        tokens: table.flags.len(),
    }
}

#[no_mangle]
pub unsafe extern "C" fn hd_tokenizer_encode(
    tokenizer: *const Arc<Tokenizer>,
    text: View,
    special: i32,
    out: *mut Ids,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || {
        Ok(Ids::from((*tokenizer).encode(text.text()?, special != 0)?))
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_tokenizer_encode_spans(
    tokenizer: *const Arc<Tokenizer>,
    text: View,
    spans: *const [usize; 2],
    count: usize,
    out: *mut Ids,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || {
        let spans = if count == 0 {
            &[]
        } else {
            slice::from_raw_parts(spans, count)
        };
        let spans: Vec<(usize, usize)> = spans.iter().map(|s| (s[0], s[1])).collect();
        Ok(Ids::from((*tokenizer).encode_spans(text.text()?, &spans)?))
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_tokenizer_decode(
    tokenizer: *const Arc<Tokenizer>,
    ids: *const u32,
    count: usize,
    skip_special: i32,
    out: *mut Bytes,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || {
        let ids = if count == 0 {
            &[]
        } else {
            slice::from_raw_parts(ids, count)
        };
        Ok(Bytes::from(
            (*tokenizer).decode(ids, skip_special != 0)?.into_bytes(),
        ))
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_tokenizer_id(tokenizer: *const Arc<Tokenizer>, text: View) -> i64 {
    caught(|| Ok((*tokenizer).id(text.text()?)))
        .ok()
        .flatten()
        .map_or(-1, i64::from)
}

#[no_mangle]
pub unsafe extern "C" fn hd_template_new(
    source: View,
    globals: View,
    out: *mut *mut Template,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || {
        Ok(boxed(Template::compile(source.text()?, globals.bytes())?))
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_template_free(template: *mut Template) {
    release(template)
}

#[no_mangle]
pub unsafe extern "C" fn hd_template_render(
    template: *const Template,
    context: View,
    now: *const Now,
    out: *mut Bytes,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || {
        Ok(Bytes::from(
            (*template).render(context.bytes(), *now)?.into_bytes(),
        ))
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_vocabulary_new(
    tokenizer: *const Arc<Tokenizer>,
    size: usize,
    eos: *const u32,
    eos_count: usize,
    out: *mut *mut Vocabulary,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || {
        let eos = if eos_count == 0 {
            &[]
        } else {
            slice::from_raw_parts(eos, eos_count)
        };
        Ok(boxed(Vocabulary::new((*tokenizer).clone(), size, eos)?))
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_vocabulary_free(vocabulary: *mut Vocabulary) {
    release(vocabulary)
}

#[no_mangle]
pub unsafe extern "C" fn hd_grammar_new(
    vocabulary: *const Vocabulary,
    kind: View,
    source: View,
    out: *mut *mut Arc<Grammar>,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || {
        Ok(boxed(Arc::new(
            (*vocabulary).compile(kind.text()?, source.text()?)?,
        )))
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_grammar_free(grammar: *mut Arc<Grammar>) {
    release(grammar)
}

#[no_mangle]
pub unsafe extern "C" fn hd_matcher_new(
    grammar: *const Arc<Grammar>,
    out: *mut *mut Matcher,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || Ok(boxed((*grammar).matcher())))
}

#[no_mangle]
pub unsafe extern "C" fn hd_matcher_free(matcher: *mut Matcher) {
    release(matcher)
}

#[no_mangle]
pub unsafe extern "C" fn hd_matcher_mask(
    matcher: *mut Matcher,
    words: *mut u32,
    count: usize,
    message: *mut Bytes,
) -> i32 {
    call(&mut (), message, || {
        let words = if count == 0 {
            &mut []
        } else {
            slice::from_raw_parts_mut(words, count)
        };
        (*matcher).mask(words)
    })
}

#[no_mangle]
pub unsafe extern "C" fn hd_matcher_consume(
    matcher: *mut Matcher,
    token: u32,
    message: *mut Bytes,
) -> i32 {
    call(&mut (), message, || (*matcher).consume(token))
}

#[no_mangle]
pub unsafe extern "C" fn hd_matcher_forced(
    matcher: *mut Matcher,
    out: *mut Ids,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || Ok(Ids::from((*matcher).forced()?)))
}

#[no_mangle]
pub unsafe extern "C" fn hd_matcher_accepting(
    matcher: *mut Matcher,
    out: *mut i32,
    message: *mut Bytes,
) -> i32 {
    call(out, message, || Ok((*matcher).accepting()? as i32))
}

#[no_mangle]
pub unsafe extern "C" fn hd_matcher_stopped(matcher: *const Matcher) -> i32 {
    (*matcher).stopped() as i32
}
