package weights

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// readConfig reads a config.json, and a generation_config.json unless empty.
func readConfig(config, generation string) (*Config, error) {
	files := map[string][]byte{configFile: []byte(config)}
	if generation != "" {
		files[generationFile] = []byte(generation)
	}
	return ReadConfigFolder(&memFolder{files: files})
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	text := ` {"model_type":"llama","n":-1.5e+3,"deep":[[{"a":[true,false,null,0,"é"]}]],"vocab_size":7,
		"eos_token_id":2,"max":null,"Vocab_Size":9}`
	require.NoError(t, os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o644))
	c, err := ReadConfig(dir)
	require.NoError(t, err)
	require.Equal(t, text, string(c.Raw))
	require.Equal(t, "llama", c.ModelType)
	require.Equal(t, []int32{2}, c.EOS)
	require.Nil(t, c.Quantization)
	n, ok, err := c.Natural("vocab_size")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, int64(7), n)
	for _, absent := range []string{"max", "Deep"} {
		_, ok, err = c.Natural(absent)
		require.NoError(t, err)
		require.False(t, ok)
	}
	_, _, err = c.Natural("n")
	require.EqualError(t, err, `config.json: n: is "-1.5e+3", want a non-negative integer`)
}

func TestConfigFolderWithoutConfig(t *testing.T) {
	_, err := ReadConfig(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = ReadJSON(Dir(t.TempDir()), "tokenizer_config.json")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestNestedTextConfig(t *testing.T) {
	c, err := readConfig(`{"model_type":"m","hidden_size":1,"text_config":{"hidden_size":2,"vocab_size":3,
		"head_dim":"x","eos_token_id":[4,5]}}`, "")
	require.NoError(t, err)
	require.Equal(t, []int32{4, 5}, c.EOS)
	n, _, err := c.Natural("hidden_size")
	require.NoError(t, err)
	require.Equal(t, int64(1), n)
	n, _, err = c.Natural("vocab_size")
	require.NoError(t, err)
	require.Equal(t, int64(3), n)
	_, _, err = c.Natural("head_dim")
	require.EqualError(t, err, `config.json: text_config.head_dim: is "\"x\"", want a non-negative integer`)
}

func TestEndOfTextIDs(t *testing.T) {
	for _, c := range []struct {
		config, generation string
		want               []int32
	}{
		{`{"model_type":"m"}`, ``, nil},
		{`{"model_type":"m","eos_token_id":null}`, `{}`, nil},
		{`{"model_type":"m","eos_token_id":0}`, ``, []int32{0}},
		{`{"model_type":"m","eos_token_id":[ 1 , 2 ]}`, `{"eos_token_id":null}`, []int32{1, 2}},
		{`{"model_type":"m","eos_token_id":1}`, `{"eos_token_id":[3,4]}`, []int32{3, 4}},
		{`{"model_type":"m","eos_token_id":1}`, `{"eos_token_id":0}`, []int32{0}},
		{`{"model_type":"m"}`, `{"eos_token_id":[]}`, []int32{}},
	} {
		got, err := readConfig(c.config, c.generation)
		require.NoError(t, err)
		require.Equal(t, c.want, got.EOS, c)
	}
}

func TestQuantizationByPath(t *testing.T) {
	const body = `{"group_size":64,"bits":4,"a":{"group_size":32,"bits":8},"b":false,"c":true,
		"d":{"group_size":16,"bits":4,"mode":"nvfp4"}}`
	for _, text := range []string{`{"model_type":"m","quantization":` + body + `,"quantization_config":{"quant_method":"other"}}`,
		`{"model_type":"m","quantization":null,"quantization_config":` + body + `}`} {
		c, err := readConfig(text, "")
		require.NoError(t, err)
		for path, want := range map[string]struct {
			params              QuantParams
			quantized, explicit bool
		}{
			"a":    {QuantParams{32, 8, "affine"}, true, true},
			"b":    {QuantParams{}, false, true},
			"c":    {QuantParams{64, 4, "affine"}, true, true},
			"d":    {QuantParams{16, 4, "nvfp4"}, true, true},
			"else": {QuantParams{64, 4, "affine"}, true, false},
		} {
			p, quantized, explicit := c.Quantization.For(path)
			require.Equal(t, want.params, p, path)
			require.Equal(t, want.quantized, quantized, path)
			require.Equal(t, want.explicit, explicit, path)
		}
	}
}

func TestMalformedConfig(t *testing.T) {
	seen := make(map[string]bool)
	check := func(config, generation, want string) {
		t.Helper()
		c, err := readConfig(config, generation)
		require.EqualError(t, err, want)
		require.Nil(t, c)
		var format *FormatError
		require.True(t, errors.As(err, &format))
		require.False(t, seen[want], "two cases give %s", want)
		seen[want] = true
	}
	for text, want := range map[string]string{
		``:                                    `byte 0: end of JSON, want '{'`,
		`null`:                                `byte 0: found 'n', want '{'`,
		`{"model_type":"m"}}`:                 `byte 18: found '}' after the end of the JSON value`,
		`{"a":1,"a":2}`:                       `byte 11: duplicate key "a"`,
		`{"a":{"b":1,"\u0062":2}}`:            `byte 21: duplicate key "b"`,
		"{\"a\":\"\xff\"}":                    `byte 7: string is not valid UTF-8`,
		`{"a":tru}`:                           `byte 5: found 't', want a value`,
		`{"a":}`:                              `byte 5: found '}', want a value`,
		`{"a":-}`:                             `byte 6: found '}', want a digit`,
		`{"a":NaN}`:                           `byte 5: found 'N', want a value`,
		`{"a":01}`:                            `byte 7: number has a leading zero`,
		`{"a":1.}`:                            `byte 7: found '}', want a digit after the point`,
		`{"a":1e}`:                            `byte 7: found '}', want a digit in the exponent`,
		`{"a":1E+}`:                           `byte 8: found '}', want a digit in the exponent`,
		`{"a":[1,]}`:                          `byte 8: found ']', want a value`,
		`{"a":[1 2]}`:                         `byte 8: found '2', want ']'`,
		`{"a":` + strings.Repeat("[", 1000):   `byte 68: nested too deeply`,
		`{"a":` + strings.Repeat(`{"a":`, 99): `byte 320: nested too deeply`,
		`{}`:                                  `model_type: is missing`,
		`{"model_type":1}`:                    `model_type: is not a string`,
		`{"model_type":""}`:                   `model_type: is empty`,
		`{"model_type":"m","text_config":1}`:  `text_config: byte 0: found '1', want '{'`,
		strings.Repeat(" ", maxConfigBytes+1): `is 8388609 bytes, at most 8388608 are read`,
	} {
		check(text, "", configFile+": "+want)
	}
	for member, want := range map[string]string{
		`"eos_token_id":[0` + strings.Repeat(",1", 1024) + `]`: "eos_token_id: lists 1025 ids, at most 1024 are read",
		`"eos_token_id":-1`:                                        `eos_token_id: is "-1", want a non-negative integer`,
		`"eos_token_id":"2"`:                                       `eos_token_id: is "\"2\"", want a non-negative integer`,
		`"eos_token_id":[1,2.5]`:                                   `eos_token_id: is "2.5", want a non-negative integer`,
		`"eos_token_id":2147483648`:                                `eos_token_id: id 2147483648 is out of range`,
		`"text_config":{"eos_token_id":{}}`:                        `text_config.eos_token_id: is "{}", want a non-negative integer`,
		`"quantization":[]`:                                        `quantization: byte 0: found '[', want '{'`,
		`"quantization":{}`:                                        `quantization: group_size is missing`,
		`"quantization":{"group_size":64}`:                         `quantization: bits is missing`,
		`"quantization":{"group_size":"a","bits":4}`:               `quantization: group_size is "\"a\"", want a non-negative integer`,
		`"quantization":{"group_size":48,"bits":4}`:                `quantization: group_size 48 is not one of [32 64 128] in mode affine`,
		`"quantization":{"group_size":64,"bits":7}`:                `quantization: bits 7 is not one of [2 3 4 5 6 8] in mode affine`,
		`"quantization":{"group_size":64,"bits":4,"mode":"mxfp4"}`: `quantization: group_size 64 is not one of [32] in mode mxfp4`,
		`"quantization":{"group_size":32,"bits":4,"mode":"%s"}`:    `quantization: unknown mode "%s" (affine, mxfp4, mxfp8, nvfp4)`,
		`"quantization":{"group_size":32,"bits":4,"mode":4}`:       `quantization: mode is not a string`,
		`"quantization":{"group_size":32,"bits":4,"p":{"bits":4}}`: `quantization["p"]: group_size is missing`,
		`"quantization":{"group_size":32,"bits":4,"p":8}`:          `quantization["p"]: byte 0: found '8', want '{'`,
		`"quantization_config":{"quant_method":"gptq"}`:            `quantization_config: quant_method "\"gptq\"" is not supported`,
	} {
		check(`{"model_type":"m",`+member+`}`, "", configFile+": "+want)
	}
	check(`{"model_type":"m"}`, `{"eos_token_id":"x"}`,
		`generation_config.json: eos_token_id: is "\"x\"", want a non-negative integer`)
	check(`{"model_type":"m"}`, `[]`, `generation_config.json: byte 0: found '[', want '{'`)
}

func TestEveryFaultWhileReadingConfig(t *testing.T) {
	files := map[string][]byte{configFile: []byte(`{"model_type":"m"}`), generationFile: []byte(`{"eos_token_id":1}`)}
	healthy := &memFolder{files: files}
	_, err := ReadConfigFolder(healthy)
	require.NoError(t, err)
	for fail := 1; fail <= healthy.turns; fail++ {
		folder := &memFolder{files: files, fail: fail}
		c, err := ReadConfigFolder(folder)
		require.ErrorIs(t, err, errFault, "call %d", fail)
		require.Nil(t, c)
		require.Zero(t, folder.open)
	}
}

func TestFileThatChangesWhileReadingConfig(t *testing.T) {
	files := map[string][]byte{configFile: []byte(`{"model_type":"m"}`)}
	c, err := ReadConfigFolder(changingFolder{&memFolder{files: files}, 1, func(f *memFile) { f.time = time.Unix(1, 0) }})
	require.EqualError(t, err, "config.json: the file changed while it was being read")
	require.Nil(t, c)
}

func TestContextLength(t *testing.T) {
	for config, want := range map[string]int64{
		`"vocab_size":1`:                                    0,
		`"max_position_embeddings":128`:                     128,
		`"max_position_embeddings":128,"rope_scaling":null`: 128,
		`"max_position_embeddings":128,"rope_scaling":{"type":"linear","factor":4}`:                                                   128,
		`"max_position_embeddings":128,"rope_scaling":{"rope_type":"dynamic","factor":4}`:                                             512,
		`"max_position_embeddings":32768,"rope_scaling":{"type":"yarn","factor":4.0,"original_max_position_embeddings":32768}`:        131072,
		`"max_position_embeddings":131072,"rope_parameters":{"rope_type":"yarn","factor":16,"original_max_position_embeddings":4096}`: 131072,
		`"max_position_embeddings":128,"rope_scaling":{"type":"yarn","factor":4}`:                                                     128,
		`"max_position_embeddings":128,"rope_scaling":{"type":"dynamic","factor":1e300}`:                                              1<<31 - 1,
		`"text_config":{"max_position_embeddings":128,"rope_scaling":{"type":null,"rope_type":"dynamic","factor":2}}`:                 256,
	} {
		c, err := readConfig(`{"model_type":"m",`+config+`}`, "")
		require.NoError(t, err, config)
		n, err := c.ContextLength()
		require.NoError(t, err, config)
		require.Equal(t, want, n, config)
	}
	for config, want := range map[string]string{
		`"max_position_embeddings":-1`:                                               `config.json: max_position_embeddings: is "-1", want a non-negative integer`,
		`"max_position_embeddings":8,"rope_scaling":[]`:                              `config.json: rope_scaling: byte 0: found '[', want '{'`,
		`"max_position_embeddings":8,"rope_scaling":{"type":1}`:                      `config.json: rope_scaling: type is not a string`,
		`"max_position_embeddings":8,"rope_parameters":{"factor":"x"}`:               `config.json: rope_parameters: factor is not a number`,
		`"text_config":{"max_position_embeddings":8,"rope_scaling":{"factor":true}}`: `config.json: text_config.rope_scaling: factor is not a number`,
	} {
		c, err := readConfig(`{"model_type":"m",`+config+`}`, "")
		require.NoError(t, err, config)
		_, err = c.ContextLength()
		require.EqualError(t, err, want)
	}
}
