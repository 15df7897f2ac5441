package weights

// A preTokenizer says how a byte-level BPE tokenizer cuts text into the pieces
// that merges stay within: each pattern in turn cuts what the one before it
// left whole.
type preTokenizer struct {
	split        []string
	nfc          bool // the text is normalized to NFC first
	ignoreMerges bool // a piece that is a token is taken as it is
	bos          bool // the text begins with the bos token unless the file says no
}

// The patterns that several families share, each as the tokenizer.json of the
// first of them spells it. They are facts of the models.
const (
	splitGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	splitLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}` +
		`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	splitQwen2 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}` +
		`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	splitQwen35 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}` +
		`| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	wordTekken  = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
	upperTekken = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
	restTekken  = `| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	splitTekken = wordTekken + `|` + upperTekken + `|\p{N}` + restTekken
	endGPT4o    = `(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
	splitGPT4o  = wordTekken + endGPT4o + `|` + upperTekken + endGPT4o + `|\p{N}{1,3}` + restTekken
	splitHan    = `[一-龥぀-ゟ゠-ヿ]+`
	splitDeep3  = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" +
		`|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	splitPunctuation = "[\\p{P}\\$\\+<=>\\^~\\|`]+"
	splitCJK         = `[一-龥ࠀ-一가-퟿]+`
)

var (
	preGPT2      = preTokenizer{split: []string{splitGPT2}}
	preDigits    = preTokenizer{split: []string{`\p{N}`, splitGPT2}}
	preLlama3    = preTokenizer{split: []string{splitLlama3}}
	preLlamaBPE  = preTokenizer{split: []string{splitLlama3}, ignoreMerges: true, bos: true}
	preQwen2     = preTokenizer{split: []string{splitQwen2}, nfc: true}
	preGPT4o     = preTokenizer{split: []string{splitGPT4o}}
	preDeepSeek3 = preTokenizer{split: []string{`\p{N}{1,3}`, splitHan, splitDeep3}}
)

// preTokenizers holds a row per value of tokenizer.ggml.pre. Values share a row
// where llama.cpp's llama-vocab.cpp treats them alike.
var preTokenizers = map[string]preTokenizer{
	"default": {split: []string{splitPunctuation, splitGPT2, `\p{N}+`, `[0-9][0-9][0-9]`}},
	"falcon":  {split: []string{splitPunctuation, splitGPT2, `[0-9][0-9][0-9]`}},
	"gpt-2":   preGPT2, "phi-2": preGPT2, "mpt": preGPT2, "olmo": preGPT2, "exaone4": preGPT2, "gigachat": preGPT2,
	"smollm": preDigits, "starcoder": preDigits, "refact": preDigits, "codeshell": preDigits, "exaone": preDigits,
	"command-r": {split: []string{`\p{N}`, splitGPT2}, nfc: true},
	"llama-bpe": preLlamaBPE, "llama3": preLlamaBPE, "llama-v3": preLlamaBPE, "falcon3": preLlamaBPE,
	"falcon-h1": preLlamaBPE, "pixtral": preLlamaBPE, "lfm2": preLlamaBPE,
	"dbrx": preLlama3, "smaug-bpe": preLlama3, "chatglm-bpe": preLlama3,
	"glm4":  {split: []string{splitLlama3}, ignoreMerges: true},
	"qwen2": preQwen2, "deepseek-r1-qwen": preQwen2, "megrez": preQwen2,
	"stablelm2":      {split: []string{splitQwen2}},
	"hunyuan":        {split: []string{splitQwen2}},
	"qwen35":         {split: []string{splitQwen35}},
	"tekken":         {split: []string{splitTekken}, ignoreMerges: true, bos: true},
	"gpt-4o":         preGPT4o,
	"llama4":         preGPT4o,
	"deepseek-v3":    preDeepSeek3,
	"hunyuan-dense":  preDeepSeek3,
	"deepseek-coder": {split: []string{`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, splitCJK, `\p{N}`}},
	"deepseek-llm": {split: []string{`[\r\n]`, `\s?` + cased + `+`,
		`\s?[!-/:-~！-／：-～‘-‟　-。]+`, `\s+$`, splitCJK, `\p{N}+`}},
}

// cased is the class of cased letters as DeepSeek LLM's tokenizer lists them.
// It is escaped because it holds letters that Unicode normalization replaces,
// which would turn its ranges around.
const cased = "[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af" +
	"\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1" +
	"\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd" +
	"\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d" +
	"\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4" +
	"\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec" +
	"\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126" +
	"\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184" +
	"\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f" +
	"\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a" +
	"\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2" +
	"\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]"
