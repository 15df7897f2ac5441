// Package native binds harmonyd's Rust library: HF tokenizers, chat templates
// and constrained decoding.
//
// Its inputs are untrusted: tokenizer files and templates are downloads, texts
// and grammars come from clients. It must never let them crash the process,
// take memory without bound, or turn outside text into a control token. Every
// handle belongs to a Go value with a Close; using a closed value is an error,
// and Live counts the open ones.
//
// Start at LoadTokenizer, CompileTemplate and NewGrammarTokenizer. The C
// interface is harmonyd_native.h, the Rust side src/abi.rs.
package native
