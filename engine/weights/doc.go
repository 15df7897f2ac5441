// Package weights reads and writes model files: safetensors with their index,
// GGUF, and the config files beside them. It also turns a GGUF file into an
// MLX-format folder without changing the value of a weight, but for those of
// the K types, which it rounds to 16 bits.
//
// Model files come from strangers. Every count, length and offset in one is
// therefore checked against the size of the file before it is used, nothing is
// allocated on the word of a header alone, and whatever breaks its format is
// refused with a [FormatError] that names the file and the tensor or field.
// The package must never call into C, never map a file into memory (a file
// that shrinks under a mapping kills the process) and never return a tensor
// of which a single byte was not read.
//
// Start at [Open] for a model folder, [ReadConfig] for its configuration and
// [ImportGGUF] for the conversion.
package weights
