//! The Rust half of harmonyd's `engine/native`: tokenizers, chat templates and
//! constrained decoding behind the C interface of `harmonyd_native.h`.
//!
//! Its inputs are untrusted downloads and requests, so it must never let a
//! panic cross the interface, and never allocate what an input merely asks for.
//! Start at `abi.rs`, which holds every exported function.

// First, because the others use its macro.
#[macro_use]
pub mod guard;

pub mod abi;
pub mod added;
pub mod bounded;
pub mod clock;
pub mod grammar;
pub mod mask;
pub mod python;
pub mod table;
pub mod template;
pub mod tokenizer;
