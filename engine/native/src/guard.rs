//! Keeps panics and deep recursion inside the library.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;
use std::thread;

/// What went wrong, in the words that the caller sees.
#[derive(Debug)]
pub enum Failure {
    /// The input was refused.
    Refused(String),
    /// A chat template called `raise_exception`.
    Raised(String),
    /// A bug here or in a dependency.
    Panicked(String),
}

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(e: E) -> Self {
        Failure::Refused(e.to_string())
    }
}

/// Makes a `Failure::Refused` from a format string.
macro_rules! refuse {
    ($($arg:tt)*) => { $crate::guard::Failure::Refused(format!($($arg)*)) };
}

/// Stack of the threads that run parsers and templates. A template may nest
/// lists as deep as its fuel lasts, and freeing such a list recurses: the stack
/// has to outlast the fuel. Only pages that are touched cost memory.
pub const DEEP_STACK: usize = 512 << 20;

thread_local! {
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: RefCell<u32> = const { RefCell::new(0) };
}

/// The default hook prints a panic to stderr. Ours keeps the place for the
/// message instead, for panics that `caught` is going to report.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.with(|q| *q.borrow()) == 0 {
                return previous(info);
            }
            let place = info
                .location()
                .map(|l| format!(" at {}:{}", l.file(), l.line()));
            MESSAGE.with(|m| *m.borrow_mut() = place);
        }));
    });
}

fn describe(payload: Box<dyn Any + Send>) -> Failure {
    let text = match payload.downcast_ref::<&'static str>() {
        Some(s) => s.to_string(),
        None => match payload.downcast_ref::<String>() {
            Some(s) => s.clone(),
            None => "panic".to_string(),
        },
    };
    let place = MESSAGE.with(|m| m.borrow_mut().take()).unwrap_or_default();
    Failure::Panicked(format!("{text}{place}"))
}

/// Runs f and turns a panic into a failure.
pub fn caught<T>(f: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    install_hook();
    QUIET.with(|q| *q.borrow_mut() += 1);
    let r = catch_unwind(AssertUnwindSafe(f));
    QUIET.with(|q| *q.borrow_mut() -= 1);
    r.unwrap_or_else(|payload| Err(describe(payload)))
}

/// Runs f on a thread with a deep stack and turns a panic into a failure.
pub fn deep<T: Send>(f: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("native".into())
            .stack_size(DEEP_STACK)
            .spawn_scoped(scope, || caught(f))?;
        worker
            .join()
            .unwrap_or_else(|payload| Err(describe(payload)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_failure() {
        for run in [caught::<()>, deep::<()>] {
            match run(|| panic!("boom")) {
                Err(Failure::Panicked(m)) => assert!(m.starts_with("boom at "), "{m}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
