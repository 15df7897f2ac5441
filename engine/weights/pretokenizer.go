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
	"deepseek-llm":   {split: []string{`[\r\n]`, `\s?` + cased + `+`, `\s?[!-/:-~！-／：-～‘-‟　-。]+`, `\s+$`, splitCJK, `\p{N}+`}},
}

// cased is the class of cased letters as DeepSeek LLM's tokenizer lists them.
const cased = `[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅ` +
	`ὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⲳⲳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿ` +
	`ﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]`
