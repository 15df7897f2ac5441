package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"harmonyd/engine/job"
	"harmonyd/engine/native"
)

// maxTextFile bounds tokenizer and template files. The largest known tokenizer
// takes 34 MB.
const maxTextFile = 256 << 20

// opened is a model's tokenizer and template, read at most once at a time and
// kept for the life of the engine. Readers may come from any goroutine.
type opened struct {
	mu   sync.Mutex
	done chan struct{} // nil before the first start; closed when it is over
	text *texts
	err  error
}

// texts are what Open returns besides the description.
type texts struct {
	tokenizer *native.Tokenizer
	template  *native.Template // nil where the model has none
	source    string           // of the template

	// words is the vocabulary as grammars need it. It takes up to two seconds, so it is
	// made when the first constraint comes.
	once     sync.Once
	words    *native.GrammarTokenizer
	wordsErr error
	grammars grammars
}

// start begins to read folder unless that was done, and again after a failure:
// a person may have mended the folder.
func (o *opened) start(folder string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done != nil {
		select {
		case <-o.done:
			if o.err == nil {
				return
			}
		default:
			return
		}
	}
	done := make(chan struct{})
	o.done = done
	go func() {
		text, err := readTexts(folder)
		o.mu.Lock()
		o.text, o.err = text, err
		o.mu.Unlock()
		close(done)
	}()
}

// wait waits for what start began.
func (o *opened) wait(ctx context.Context) error {
	o.mu.Lock()
	done := o.done
	o.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// close frees what was read. Nothing may use it any more.
func (o *opened) close() {
	if o.done == nil {
		return
	}
	<-o.done
	if o.text != nil {
		o.text.close()
	}
}

func (t *texts) close() {
	t.tokenizer.Close()
	if t.template != nil {
		t.template.Close()
	}
	t.grammars.close()
	if t.words != nil {
		t.words.Close()
	}
}

// Open makes a model's tokenizer and template ready without its weights. The
// empty name means the default model. The result is valid until Close.
func (e *Engine) Open(ctx context.Context, model string) (*Model, error) {
	m, info, err := e.find(model)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, job.ErrClosed
	}
	m.opened.start(m.folder)
	e.mu.Unlock()
	if err := m.opened.wait(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, &job.LoadError{Model: m.id, Cause: err.Error()}
	}
	text := m.opened.text
	return &Model{Info: info, Tokenizer: text.tokenizer, Template: text.template, TemplateSource: text.source}, nil
}

// tokenizerConfig is the part of tokenizer_config.json that templates need.
type tokenizerConfig struct {
	Template json.RawMessage `json:"chat_template"`
	BOS      tokenText       `json:"bos_token"`
	EOS      tokenText       `json:"eos_token"`
	PAD      tokenText       `json:"pad_token"`
	UNK      tokenText       `json:"unk_token"`
}

// tokenText is a token's text, which is written as a string or as an object.
type tokenText string

func (t *tokenText) UnmarshalJSON(b []byte) error {
	var object struct {
		Content string `json:"content"`
	}
	if len(b) > 0 && b[0] == '{' {
		err := json.Unmarshal(b, &object)
		*t = tokenText(object.Content)
		return err
	}
	var text *string // null is as good as absent
	if err := json.Unmarshal(b, &text); err != nil || text == nil {
		return err
	}
	*t = tokenText(*text)
	return nil
}

func readTexts(folder string) (*texts, error) {
	tokenizerJSON, err := readFile(folder, "tokenizer.json")
	if err != nil {
		return nil, err
	}
	configJSON, err := readFile(folder, "tokenizer_config.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var config tokenizerConfig
	if configJSON != nil {
		if err := json.Unmarshal(configJSON, &config); err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: %w", err)
		}
	}
	source, err := templateSource(folder, config.Template)
	if err != nil {
		return nil, err
	}
	t := &texts{source: source}
	t.grammars.compile = func(c job.Constraint) (*native.Grammar, error) {
		return t.words.Compile(string(c.Kind), c.Source)
	}
	if t.tokenizer, err = native.LoadTokenizer(tokenizerJSON, configJSON); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	if source == "" {
		return t, nil
	}
	t.template, err = native.CompileTemplate(source, native.TemplateOptions{
		BOS: string(config.BOS), EOS: string(config.EOS), PAD: string(config.PAD), UNK: string(config.UNK),
	})
	if err != nil {
		t.tokenizer.Close()
		return nil, err
	}
	return t, nil
}

// templateSource finds the chat template where transformers looks: in a file of
// its own, else in tokenizer_config.json, as one text or as a list of named ones.
func templateSource(folder string, config json.RawMessage) (string, error) {
	file, err := readFile(folder, "chat_template.jinja")
	if err == nil {
		return string(file), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if len(config) == 0 || string(config) == "null" {
		return "", nil
	}
	var one string
	if json.Unmarshal(config, &one) == nil {
		return one, nil
	}
	var named []struct {
		Name     string `json:"name"`
		Template string `json:"template"`
	}
	if err := json.Unmarshal(config, &named); err != nil {
		return "", fmt.Errorf("tokenizer_config.json: chat_template: %w", err)
	}
	first := ""
	for _, n := range named {
		if n.Name == "default" {
			return n.Template, nil
		}
		first = cmp.Or(first, n.Template)
	}
	return first, nil
}

// readFile reads a file of a model folder, if it is a file and not too large.
func readFile(folder, name string) ([]byte, error) {
	info, err := os.Stat(filepath.Join(folder, name))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxTextFile {
		return nil, fmt.Errorf("%s: not a file of at most %d bytes", name, maxTextFile)
	}
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxTextFile))
}
