package weights

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The token types of tokenizer.ggml.token_type.
const (
	tokenNormal  = 1
	tokenUnknown = 2
	tokenControl = 3
	tokenUser    = 4
	tokenByte    = 6
)

// A vocabulary is the tokenizer of a GGUF file.
type vocabulary struct {
	g      *GGUF
	model  string // gpt2: byte-level BPE; llama: SentencePiece BPE
	pre    preTokenizer
	tokens []string
	types  []int64
	scores []float64 // llama only
	merges []string  // gpt2 only

	special     map[string]int // bos, eos, unk, pad, eot, eom → id, where known
	addBOS      bool
	addEOS      bool
	spacePrefix bool // llama only: a space stands before the text

	template  string
	templates map[string]string // further templates by name
}

// readVocabulary reads and checks the tokenizer metadata of a model whose
// embedding has that many rows.
func readVocabulary(g *GGUF, rows int) (*vocabulary, error) {
	v := &vocabulary{g: g, special: make(map[string]int)}
	const modelKey = "tokenizer.ggml.model"
	var ok bool
	var err error
	if v.model, ok, err = g.str(modelKey); err != nil {
		return nil, err
	} else if !ok {
		return nil, g.badKey(modelKey, "is missing")
	}
	if v.model != "gpt2" && v.model != "llama" {
		return nil, g.badKey(modelKey, "%s is not supported (gpt2, llama)", quote(v.model))
	}
	if err := v.readTokens(rows); err != nil {
		return nil, err
	}
	for _, read := range []func() error{v.readModel, v.readSpecial, v.readTemplates} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// readTokens reads the tokens and their types. There may be no more of them than
// rows, which is looked at first: empty tokens cost a file next to nothing.
func (v *vocabulary) readTokens(rows int) error {
	const key, typeKey = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
	tokens, _, err := lookup[[]string](v.g, key, "an array of strings")
	if err != nil {
		return err
	}
	switch n := len(tokens); {
	case n == 0:
		return v.g.badKey(key, "is missing or empty")
	case n > rows:
		return v.g.badKey(key, "has %d tokens, the embedding has %d rows", n, rows)
	}
	v.tokens = slices.Clone(tokens)
	seen := make(map[string]int, len(tokens))
	for id, token := range v.tokens {
		if token == "" { // llama.cpp's stand-in
			token = fmt.Sprintf("[EMPTY_%d]", id)
			v.tokens[id] = token
		}
		if first, dup := seen[token]; dup {
			return v.g.badKey(key, "token %s is both %d and %d", quote(token), first, id)
		}
		seen[token] = id
	}
	types, ok, err := lookup[[]int64](v.g, typeKey, "an array of integers")
	switch {
	case err != nil:
		return err
	case ok && len(types) != len(tokens):
		return v.g.badKey(typeKey, "has %d elements for %d tokens", len(types), len(tokens))
	case !ok:
		types = slices.Repeat([]int64{tokenNormal}, len(tokens))
	}
	v.types = types
	return nil
}

// readModel reads what the two kinds of tokenizer need beside the tokens.
func (v *vocabulary) readModel() error {
	if v.model == "llama" {
		return v.readScores()
	}
	const mergesKey, preKey = "tokenizer.ggml.merges", "tokenizer.ggml.pre"
	merges, ok, err := lookup[[]string](v.g, mergesKey, "an array of strings")
	if err != nil {
		return err
	}
	if !ok {
		return v.g.badKey(mergesKey, "is missing")
	}
	v.merges = merges
	pre, ok, err := v.g.str(preKey)
	if err != nil {
		return err
	}
	if !ok {
		pre = "default"
	}
	if v.pre, ok = preTokenizers[pre]; !ok {
		names := slices.Sorted(maps.Keys(preTokenizers))
		return v.g.badKey(preKey, "%s is not supported (%s)", quote(pre), strings.Join(names, ", "))
	}
	v.addBOS = v.pre.bos
	return nil
}

// readScores reads the scores, from which the merges of a SentencePiece model
// follow.
func (v *vocabulary) readScores() error {
	const key, prefixKey = "tokenizer.ggml.scores", "tokenizer.ggml.add_space_prefix"
	scores, _, err := lookup[[]float64](v.g, key, "an array of floats")
	if err != nil {
		return err
	}
	if len(scores) != len(v.tokens) {
		return v.g.badKey(key, "has %d elements for %d tokens", len(scores), len(v.tokens))
	}
	v.scores, v.addBOS = scores, true
	v.spacePrefix, err = v.g.boolOr(prefixKey, true)
	return err
}

// readSpecial reads the ids of special tokens and the flags about them.
func (v *vocabulary) readSpecial() (err error) {
	for _, s := range []struct{ name, key string }{
		{"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"pad", "padding"}, {"eot", "eot"}, {"eom", "eom"},
	} {
		key := "tokenizer.ggml." + s.key + "_token_id"
		id, ok, err := v.g.natural(key)
		if err != nil {
			return err
		}
		if ok && id >= int64(len(v.tokens)) {
			return v.g.badKey(key, "is %d, there are %d tokens", id, len(v.tokens))
		}
		if ok {
			v.special[s.name] = int(id)
		}
	}
	if v.model == "llama" {
		// llama.cpp's defaults for this model.
		for name, id := range map[string]int{"unk": 0, "bos": 1, "eos": 2} {
			if _, ok := v.special[name]; !ok && id < len(v.tokens) {
				v.special[name] = id
			}
		}
	}
	if _, ok := v.special["eot"]; !ok {
		if id := slices.IndexFunc(v.tokens, func(token string) bool { return slices.Contains(turnEnds, token) }); id >= 0 &&
			v.types[id] == tokenControl {
			v.special["eot"] = id
		}
	}
	for _, f := range []struct {
		key   string
		flag  *bool
		token string
	}{{"tokenizer.ggml.add_bos_token", &v.addBOS, "bos"}, {"tokenizer.ggml.add_eos_token", &v.addEOS, "eos"}} {
		if *f.flag, err = v.g.boolOr(f.key, *f.flag); err != nil {
			return err
		}
		if _, ok := v.special[f.token]; *f.flag && !ok {
			return v.g.badKey(f.key, "is true, and there is no %s token", f.token)
		}
	}
	return nil
}

// turnEnds are the control tokens that end a turn in the templates of their
// families. Most files name none of them as eot, so llama.cpp too goes by the text.
var turnEnds = []string{"<end_of_turn>", "<|eot_id|>", "<|im_end|>"}

// readTemplates reads the chat template and any named ones beside it.
func (v *vocabulary) readTemplates() (err error) {
	const key, listKey = "tokenizer.chat_template", "tokenizer.chat_templates"
	if v.template, _, err = v.g.str(key); err != nil {
		return err
	}
	names, _, err := lookup[[]string](v.g, listKey, "an array of strings")
	if err != nil {
		return err
	}
	v.templates = make(map[string]string)
	for _, name := range names {
		text, ok, err := v.g.str(key + "." + name)
		if err != nil {
			return err
		}
		if !ok {
			return v.g.badKey(listKey, "names the template %s, which is missing", quote(name))
		}
		v.templates[name] = text
	}
	return nil
}

// addTo adds the members of config.json that come from the tokenizer.
func (v *vocabulary) addTo(config map[string]any) {
	for _, name := range []string{"bos", "pad"} {
		if id, ok := v.special[name]; ok {
			config[name+"_token_id"] = id
		}
	}
	switch ids := v.ends(); len(ids) {
	case 0:
	case 1:
		config["eos_token_id"] = ids[0]
	default:
		config["eos_token_id"] = ids
	}
}

// ends returns the ids that end generation: chat models have more ways to end
// a turn than one.
func (v *vocabulary) ends() []int {
	var ids []int
	for _, name := range []string{"eos", "eot", "eom"} {
		if id, ok := v.special[name]; ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// generationConfig renders generation_config.json.
func (v *vocabulary) generationConfig() map[string]any {
	config := make(map[string]any)
	v.addTo(config)
	return config
}

// config renders tokenizer_config.json.
func (v *vocabulary) config(context int) map[string]any {
	class := "PreTrainedTokenizerFast"
	if v.model == "llama" {
		class = "LlamaTokenizerFast"
	}
	decoder := make(map[string]any)
	for _, t := range v.addedTokens() {
		decoder[fmt.Sprint(t.ID)] = map[string]any{"content": t.Content, "lstrip": false,
			"normalized": false, "rstrip": false, "single_word": false, "special": t.Special}
	}
	config := map[string]any{
		"tokenizer_class":              class,
		"added_tokens_decoder":         decoder,
		"add_bos_token":                v.addBOS,
		"add_eos_token":                v.addEOS,
		"clean_up_tokenization_spaces": false,
		"model_max_length":             context,
	}
	for _, name := range []string{"bos", "eos", "unk", "pad"} {
		if id, ok := v.special[name]; ok {
			config[name+"_token"] = v.tokens[id]
		}
	}
	switch {
	case len(v.templates) > 0:
		list := []map[string]string{{"name": "default", "template": v.template}}
		for _, name := range slices.Sorted(maps.Keys(v.templates)) {
			list = append(list, map[string]string{"name": name, "template": v.templates[name]})
		}
		config["chat_template"] = list
	case v.template != "":
		config["chat_template"] = v.template
	}
	return config
}
