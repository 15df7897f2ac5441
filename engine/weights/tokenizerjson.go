package weights

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// obj is a JSON object of the tokenizer.json format, whose members the code
// below spells out where they are used.
type obj = map[string]any

// An addedToken is matched in the text before anything else is done to it.
type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// addedTokens returns the control and user-defined tokens in order of id.
func (v *vocabulary) addedTokens() []addedToken {
	var added []addedToken
	for id, kind := range v.types {
		switch {
		case kind == tokenControl, kind == tokenUser,
			// SentencePiece's <unk> is matched too; a byte-level model has none.
			kind == tokenUnknown && v.model == "llama":
			added = append(added, addedToken{ID: id, Content: v.tokens[id], Special: kind != tokenUser})
		}
	}
	return added
}

// tokenizerJSON renders tokenizer.json, the file of Hugging Face's tokenizers
// library, for a tokenizer that gives the ids of llama.cpp.
func (v *vocabulary) tokenizerJSON() ([]byte, error) {
	model := obj{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
		"end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": v.pre.ignoreMerges}
	file := obj{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": v.addedTokens(),
		"normalizer": nil, "pre_tokenizer": nil, "model": model}
	var merges [][2]string
	if v.model == "llama" {
		merges = v.deriveMerges()
		v.sentencePiece(file, model)
	} else {
		var err error
		if merges, err = v.splitMerges(); err != nil {
			return nil, err
		}
		v.byteLevel(file)
	}
	model["merges"] = merges
	model["vocab"] = v.vocabJSON(v.modelTokens(merges))
	file["post_processor"] = v.postProcessor()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(file)
	return b.Bytes(), err
}

// byteLevel fills in the parts of a byte-level BPE tokenizer.
func (v *vocabulary) byteLevel(file obj) {
	if v.pre.nfc {
		file["normalizer"] = obj{"type": "NFC"}
	}
	var steps []obj
	for _, regex := range v.pre.split {
		steps = append(steps, obj{"type": "Split", "pattern": obj{"Regex": regex}, "behavior": "Isolated", "invert": false})
	}
	level := obj{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
	file["pre_tokenizer"] = obj{"type": "Sequence", "pretokenizers": append(steps, level)}
	file["decoder"] = level
}

// sentencePiece fills in the parts of a SentencePiece BPE tokenizer: spaces
// become ▁, and what no piece covers becomes bytes.
func (v *vocabulary) sentencePiece(file, model obj) {
	const mark = "▁"
	model["byte_fallback"], model["fuse_unk"] = true, true
	if id, ok := v.special["unk"]; ok {
		model["unk_token"] = v.tokens[id]
	}
	normalize := []obj{{"type": "Replace", "pattern": obj{"String": " "}, "content": mark}}
	decode := []obj{{"type": "Replace", "pattern": obj{"String": mark}, "content": " "},
		{"type": "ByteFallback"}, {"type": "Fuse"}}
	if v.spacePrefix {
		normalize = slices.Insert(normalize, 0, obj{"type": "Prepend", "prepend": mark})
		decode = append(decode, obj{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	file["normalizer"] = obj{"type": "Sequence", "normalizers": normalize}
	file["decoder"] = obj{"type": "Sequence", "decoders": decode}
}

// splitMerges splits "left right" at the first space that is not the first
// byte. Both sides and what they merge to must be tokens: the library refuses a
// file where they are not, with a message that names no file.
func (v *vocabulary) splitMerges() ([][2]string, error) {
	const key = "tokenizer.ggml.merges"
	ids := v.ids()
	merges := make([][2]string, len(v.merges))
	for i, text := range v.merges {
		at := -1
		if text != "" {
			at = strings.IndexByte(text[1:], ' ')
		}
		if at < 0 {
			return nil, v.g.badKey(key, "merge %d is %s, want two tokens", i, quote(text))
		}
		left, right := text[:at+1], text[at+2:]
		for _, token := range []string{left, right, left + right} {
			if _, ok := ids[token]; !ok {
				return nil, v.g.badKey(key, "merge %d: %s is not a token", i, quote(token))
			}
		}
		merges[i] = [2]string{left, right}
	}
	return merges, nil
}

// deriveMerges finds the merges of a SentencePiece model: every way to split a
// piece into two others, best score first, as transformers' converter does.
func (v *vocabulary) deriveMerges() [][2]string {
	type merge struct {
		pair  [2]string
		score float64
		ids   [2]int
	}
	ids := v.ids()
	var all []merge
	for id, piece := range v.tokens {
		if t := v.types[id]; t == tokenUnknown || t == tokenControl || t == tokenByte {
			continue
		}
		start := len(all)
		_, at := utf8.DecodeRuneInString(piece)
		for at < len(piece) {
			left, leftOK := ids[piece[:at]]
			right, rightOK := ids[piece[at:]]
			if leftOK && rightOK {
				all = append(all, merge{[2]string{piece[:at], piece[at:]}, v.scores[id], [2]int{left, right}})
			}
			_, size := utf8.DecodeRuneInString(piece[at:])
			at += size
		}
		slices.SortFunc(all[start:], func(a, b merge) int {
			return cmp.Or(cmp.Compare(a.ids[0], b.ids[0]), cmp.Compare(a.ids[1], b.ids[1]))
		})
	}
	slices.SortStableFunc(all, func(a, b merge) int { return cmp.Compare(b.score, a.score) })
	pairs := make([][2]string, len(all))
	for i, m := range all {
		pairs[i] = m.pair
	}
	return pairs
}

// ids maps every token to its id.
func (v *vocabulary) ids() map[string]int {
	ids := make(map[string]int, len(v.tokens))
	for id, token := range v.tokens {
		ids[token] = id
	}
	return ids
}

// modelTokens returns how many tokens, from id 0, the BPE model lists. Added
// tokens at the end of the ids stay out of it, so that no run of ordinary text
// can become one; the library numbers them on from the model's last. Tokens in
// the middle cannot stay out, nor any that a merge makes.
func (v *vocabulary) modelTokens(merges [][2]string) int {
	n := len(v.tokens)
	for n > 0 && (v.types[n-1] == tokenControl || v.types[n-1] == tokenUser) {
		n--
	}
	tail := make(map[string]struct{}, len(v.tokens)-n)
	for _, token := range v.tokens[n:] {
		tail[token] = struct{}{}
	}
	for _, m := range merges {
		for _, token := range []string{m[0], m[1], m[0] + m[1]} {
			if _, ok := tail[token]; ok {
				return len(v.tokens)
			}
		}
	}
	return n
}

// vocabJSON renders the first n tokens in order of id, which a Go map loses.
func (v *vocabulary) vocabJSON(n int) json.RawMessage {
	out := []byte{'{'}
	for id, token := range v.tokens[:n] {
		out = appendMember(out, token, id)
	}
	return append(out, '}')
}

// postProcessor puts the tokens that begin and end a text around it, and around
// each of a pair of texts.
func (v *vocabulary) postProcessor() any {
	special := obj{}
	wrap := func(sequence string, kind int) []obj {
		list := []obj{{"Sequence": obj{"id": sequence, "type_id": kind}}}
		add := func(at int, name string) {
			token := v.tokens[v.special[name]]
			special[token] = obj{"id": token, "ids": []int{v.special[name]}, "tokens": []string{token}}
			list = slices.Insert(list, at, obj{"SpecialToken": obj{"id": token, "type_id": kind}})
		}
		if v.addBOS {
			add(0, "bos")
		}
		if v.addEOS {
			add(len(list), "eos")
		}
		return list
	}
	single, pair := wrap("A", 0), append(wrap("A", 0), wrap("B", 1)...)
	if len(special) == 0 {
		return nil
	}
	return obj{"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
}
