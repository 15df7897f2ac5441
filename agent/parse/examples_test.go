package parse

import "strings"

// The vocabularies of some families, as far as marks go.
var (
	qwen     = vocabulary{"<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>"}
	llama3   = vocabulary{"<|python_tag|>", "<|eom_id|>"}
	lfm      = vocabulary{"<|tool_call_start|>", "<|tool_call_end|>"}
	mistral3 = vocabulary{"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"}
	gemma4   = vocabulary{"<|tool_call>", "<tool_call|>", `<|"|>`, "<|channel>", "<channel|>"}
	dseek    = vocabulary{"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<think>", "</think>"}
	kimi     = vocabulary{"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>", "<|tool_call_argument_begin|>"}
	m2       = vocabulary{"<minimax:tool_call>", "</minimax:tool_call>", "<think>", "</think>"}
	v32      = vocabulary{dsml, "<think>", "</think>"}
	gptOSS   = vocabulary{"<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>"}
)

const (
	v3Open  = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
	v3Sep   = "<｜tool▁sep｜>"
	v3End   = "<｜tool▁call▁end｜>"
	v3Close = "<｜tool▁calls▁end｜>"
)

var examples = slicesOf(hermesExamples, coderExamples, llamaExamples, pythonExamples, mistralExamples, gemmaExamples,
	deepseekExamples, invokeExamples, fencedExamples, thinkExamples, harmonyExamples)

func slicesOf(all ...[]example) []example {
	var out []example
	for _, list := range all {
		out = append(out, list...)
	}
	return out
}

var hermesExamples = []example{
	{"text", "a <tool_call>{} </think>", "T[a <tool_call>{} </think>]", nil, ""},
	{"hermes", "", "", nil, ""},
	{"hermes", "just text", "T[just text]", nil, ""},
	{"hermes", "a < b <tool", "T[a < b <tool]", nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":{"z":1,"a":[2]}}</tool_call>`, `C[f {"z":1,"a":[2]}] M[</tool_call>]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":{"z":1,"a":[2]}}</tool_call>`, `C[f {"z":1,"a":[2]}] M[</tool_call>]`, qwen, ""},
	{"hermes", "Let me see.\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n", "T[Let me see.] M[\n\n] C[f {}] M[\n</tool_call>\n]", qwen, ""},
	{"hermes", `<tool_call>{"name":"f"}</tool_call> <tool_call>{"name":"g","parameters":{"x":"}"}}</tool_call> then`,
		`C[f {}] M[</tool_call> ] C[g {"x":"}"}] M[</tool_call> ] T[then]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":{"s":"</tool_call> \" { <tool_call>"}}</tool_call>`,
		`C[f {"s":"</tool_call> \" { <tool_call>"}] M[</tool_call>]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":{"s":"</tool_call>"}}</tool_call>`, `C[f {"s":"</tool_call>"}] M[</tool_call>]`, qwen, ""},
	{"hermes", `say ⟦<tool_call>{"name":"f"}</tool_call>⟧`, `T[say <tool_call>{"name":"f"}</tool_call>]`, qwen, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":"{\"a\":1}"}`, `C[f {"a":1}]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":""}`, `C[f {}]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":null}`, `C[f {}]`, nil, ""},
	{"hermes", `<tool_call>{"arguments":{"n":1.50, "s" : "ü😀"},"name":"f"}`, `C[f {"n":1.50, "s" : "ü😀"}]`, nil, ""},
	{"hermes", `<tool_call>{"type":"function","function":{"name":"f","arguments":{"a":1}}}`, `C[f {"a":1}]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f"}<tool_call>{"name":"g"}`, `C[f {}] C[g {}]`, qwen, ""},
	{"hermes", `<tool_call>{"name":"f"}</tool_cal`, `C[f {}] T[</tool_cal]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arg`, `X[it has no end: its JSON object stops after 16 bytes, within a string: <tool_call>{"name":"f","arg]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":{"a":1}</tool_call>ok`,
		`X[its JSON object is malformed at byte 31, before it is closed: <tool_call>{"name":"f","arguments":{"a":1}] M[</tool_call>] T[ok]`, qwen, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":{"a":1}</tool_call>ok`,
		`X[its JSON object is malformed at byte 31, before it is closed: <tool_call>{"name":"f","arguments":{"a":1}] M[</tool_call>] T[ok]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":{"a":"x}}</tool_call> more <tool_call>{"name":"g"}</tool_call>`,
		`X[its JSON object is malformed at byte 66, before it is closed: <tool_call>{"name":"f","arguments":{"a":"x}}] M[</tool_call> ] T[more] M[ ] C[g {}] M[</tool_call>]`, nil, ""},
	{"hermes", "<tool_call>[1]</tool_call>ok", `X[it is no JSON object: <tool_call>[1]] M[</tool_call>] T[ok]`, nil, ""},
	{"hermes", "<tool_call></tool_call>ok", `X[it is no JSON object: <tool_call>] M[</tool_call>] T[ok]`, nil, ""},
	{"hermes", "<tool_call> ", `X[it has no end: it stops before its JSON object begins: <tool_call> ]`, qwen, ""},
	{"hermes", "<tool_call>{'name': 'f'}</tool_call>ok", `X[its JSON object is malformed at byte 1, before it is closed: <tool_call>{'name': 'f'}] M[</tool_call>] T[ok]`, qwen, ""},
	{"hermes", `<tool_call>{"name":7}</tool_call>`, `X[it has no member "name" that is a string: <tool_call>{"name":7}] M[</tool_call>]`, nil, ""},
	{"hermes", `<tool_call>{"name":""}</tool_call>`, `X[it has no name: <tool_call>{"name":""}] M[</tool_call>]`, nil, ""},
	{"hermes", `<tool_call>{"name":"` + strings.Repeat("n", 65) + `"}`,
		`X[its name has 65 characters, at most 64 are allowed: <tool_call>{"name":"` + strings.Repeat("n", 65) + `"}]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":[1]}</tool_call>`, `X[its arguments are no JSON object: <tool_call>{"name":"f","arguments":[1]}] M[</tool_call>]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","arguments":"x"}</tool_call>`,
		`X[its arguments are a string that is no JSON: byte 0x78 at offset 0, want a value: <tool_call>{"name":"f","arguments":"x"}] M[</tool_call>]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f",}</tool_call>`, `X[no JSON: byte 0x7d at offset 12, want a name: <tool_call>{"name":"f",}] M[</tool_call>]`, nil, ""},
	{"hermes", `<tool_call>{"name":"f","name":"g"}`, `X[member "name" stands twice in one object, again at offset 12: <tool_call>{"name":"f","name":"g"}]`, nil, ""},
	{"glm", "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\nok",
		`C[get_weather {"city": "Köln", "days": 3}] M[</tool_call>` + "\n] T[ok]", qwen, ""},
	{"glm", "<tool_call>f<arg_key>s</arg_key><arg_value></tool_call></arg_value><arg_key>o</arg_key><arg_value>{\"a\": [1]}</arg_value></tool_call>",
		`C[f {"s": "</tool_call>", "o": {"a": [1]}}] M[</tool_call>]`, nil, ""},
	{"glm", "<tool_call>g</tool_call>", `C[g {}] M[</tool_call>]`, qwen, ""},
	{"glm", "<tool_call>g\n<arg_key>x</arg_key></tool_call>", "X[the argument \"x\" has no <arg_value> with its end: <tool_call>g\n<arg_key>x</arg_key>] M[</tool_call>]", qwen, ""},
	{"glm", "<tool_call>g\nwhat</tool_call>", "X[byte 2 of the call is no <arg_key> with its end: <tool_call>g\nwhat] M[</tool_call>]", qwen, ""},
}

const coder = "<tool_call>\n<function=f>\n<parameter=s>\nfirst\n\nlast\n</parameter>\n<parameter=n>\n12\n</parameter>\n</function>\n</tool_call>"

var coderExamples = []example{
	{"qwen-coder", coder, `C[f {"s": "first\n\nlast", "n": 12}] M[` + "\n</tool_call>]", qwen, ""},
	{"qwen-coder", coder, `C[f {"s": "first\n\nlast", "n": 12}] M[` + "\n</tool_call>]", nil, ""},
	{"qwen-coder", "ok\n" + strings.TrimPrefix(coder, "<tool_call>\n"), `T[ok] M[` + "\n" + `] C[f {"s": "first\n\nlast", "n": 12}] M[` + "\n</tool_call>]", qwen, ""},
	{"qwen-coder", "<tool_call>\n<function=g>\n</function>\n</tool_call>", `C[g {}] M[` + "\n</tool_call>]", qwen, ""},
	{"qwen-coder", "<tool_call><function=f><parameter=o>{\"a\":1}</parameter><parameter=b>True</parameter><parameter=l>None</parameter><parameter=x>5</parameter></function></tool_call>",
		`C[f {"o": {"a":1}, "b": true, "l": null, "x": "5"}] M[</tool_call>]`, qwen, ""},
	{"qwen-coder", "<tool_call><function=f><parameter=n>many</parameter></function></tool_call>", `C[f {"n": "many"}] M[</tool_call>]`, qwen, ""},
	{"qwen-coder", "<tool_call>\n<function=f>\n<parameter=s>\na\n<parameter=n>\n1\n</parameter>\n</function>\n</tool_call>", `C[f {"s": "a", "n": 1}] M[` + "\n</tool_call>]", qwen, ""},
	{"qwen-coder", "<tool_call>\n<function=f>\n<parameter=s>\n</function> <b>\n</parameter>\n</function>\n</tool_call>", `C[f {"s": "</function> <b>"}] M[` + "\n</tool_call>]", qwen, ""},
	{"qwen-coder", "<tool_call>\n<function=f>\n<parameter=s>\na\n</function>\n</tool_call>", `C[f {"s": "a"}] M[` + "\n</tool_call>]", qwen, ""},
	{"qwen-coder", "<tool_call>\n<function=f>\n<parameter=s>\na\n</tool_call>",
		"X[the parameter \"s\" has no </parameter>: <tool_call>\n<function=f>\n<parameter=s>\na\n] M[</tool_call>]", qwen, ""},
	{"qwen-coder", "<tool_call><function=f>what</function></tool_call>", "X[byte 12 of the call is neither <parameter=NAME> nor </function>: <tool_call><function=f>what</function>] M[</tool_call>]", qwen, ""},
	{"qwen-coder", "<tool_call><function=>x</tool_call>", "X[<function= is not followed by a name and >: <tool_call><function=>x] M[</tool_call>]", qwen, ""},
	{"qwen-coder", "<tool_call><function=f><parameter=\n</tool_call>", "X[<parameter= is not followed by a name and >: <tool_call><function=f><parameter=\n] M[</tool_call>]", qwen, ""},
	{"qwen-coder", "<tool_call><function=f><parameter=s>a</parameter><parameter=s>b</parameter></function>", `X[the parameter "s" stands twice: <tool_call><function=f><parameter=s>a</parameter><parameter=s>b</parameter></function>]`, qwen, ""},
	{"qwen-coder", "an <function=unknown> and <function=get", "T[an <function=unknown> and <function=get]", qwen, ""},
	{"qwen-coder", `<tool_call>{"name": "f"}</tool_call>`, `C[f {}] M[</tool_call>]`, qwen, ""},
}

var llamaExamples = []example{
	{"llama", `{"name": "get_weather", "parameters": {"city": "Rome"}}`, `C[get_weather {"city": "Rome"}]`, llama3, ""},
	{"llama", ` {"type": "function", "name": "f", "parameters": {}}; {"name": "g", "parameters": {}}`, `M[ ] C[f {}] M[; ] C[g {}]`, llama3, ""},
	{"llama", `<|python_tag|>{"name": "f", "parameters": {"n": 1}}`, `C[f {"n": 1}]`, llama3, ""},
	{"llama", `<|python_tag|>f.call(s="a", n=2)`, `C[f {"s": "a", "n": 2}]`, llama3, ""},
	{"llama", `<|python_tag|>print`, `X[it is not of the form name(key=value, …): <|python_tag|>print]`, llama3, ""},
	{"llama", `<function=f>{"n": 1}</function>`, `C[f {"n": 1}] M[</function>]`, llama3, ""},
	{"llama", `<function=f>{"n": 1`, `X[it has no end: its JSON object stops after 7 bytes: <function=f>{"n": 1]`, llama3, ""},
	{"llama", `<function=f>{"n": 01}</function>`, `X[its arguments are no JSON: byte 0x31 at offset 7, want a comma or }: <function=f>{"n": 01}] M[</function>]`, llama3, ""},
	{"llama", `{"name": "unknown", "parameters": {}}`, `T[{"name": "unknown", "parameters": {}}]`, llama3, ""},
	{"llama", `{"city": "Rome"}`, `T[{"city": "Rome"}]`, llama3, ""},
	{"llama", `{"name": "f", "parameters": {"n": 1`, `X[it has no end: its JSON object stops after 35 bytes: {"name": "f", "parameters": {"n": 1]`, llama3, ""},
	{"llama", `{"parameters": {"a": 1}, "name": "f"} done`, `C[f {"a": 1}] M[ ] T[done]`, llama3, ""},
	{"llama", `{"parameters": {"a": 1}}`, `T[{"parameters": {"a": 1}}]`, llama3, ""},
	{"llama", `{"function": {"name": "f", "parameters": {"a": 1}}}`, `C[f {"a": 1}]`, llama3, ""},
	{"llama", `{`, `T[{]`, llama3, ""},
	{"llama", `Sure: {"name": "f", "parameters": {}}`, `T[Sure: {"name": "f", "parameters": {}}]`, llama3, ""},
	{"llama", `⟦<|python_tag|>⟧ is a token`, `T[<|python_tag|> is a token]`, llama3, ""},
}

var pythonExamples = []example{
	{"pythonic", `[get_weather(city="Rome", days=3)]`, `C[get_weather {"city": "Rome", "days": 3}]`, nil, ""},
	{"pythonic", `[f(s='it\'s', n=-1.5e3), g( )] `, `C[f {"s": "it's", "n": -1.5e3}] C[g {}] M[ ]`, nil, ""},
	{"pythonic", `<|tool_call_start|>[f(o={'a': [1, (2, 3), None], "b": True}, l=[])]<|tool_call_end|>ok`, `C[f {"o": {"a": [1, [2, 3], null], "b": true}, "l": []}] M[<|tool_call_end|>] T[ok]`, lfm, ""},
	{"pythonic", `[get_weather("Rome", days=1_000)]`, `C[get_weather {"city": "Rome", "days": 1000}]`, nil, ""},
	{"pythonic", `[f(s="""a "quoted" ] text""", n=0), ]`, `C[f {"s": "a \"quoted\" ] text", "n": 0}] M[, ]]`, nil, ""},
	{"pythonic", `[f(s="\u00e9\x41\n\q" 'b')]`, `C[f {"s": "éA\n\\qb"}]`, nil, ""},
	{"pythonic", `[f(s="")]`, `C[f {"s": ""}]`, nil, ""},
	{"pythonic", `[unknown(a=1)] is a list`, `T[[unknown(a=1)] is a list]`, nil, ""},
	{"pythonic", `[1, 2] and [x](http://y)`, `T[[1, 2] and [x](http://y)]`, nil, ""},
	{"pythonic", `[f(s=what)]`, `X[the argument "s": "what" is no value: [f(s=what)]]`, nil, ""},
	{"pythonic", `[f(s=1, s=2)]`, `X[the argument "s" stands twice: [f(s=1, s=2)]]`, nil, ""},
	{"pythonic", `[f(n=1) g()]`, `X[behind the call of f stands neither a comma nor ]: [f(n=1) g()]]`, nil, ""},
	{"pythonic", `[f(n=1), 5]`, `C[f {"n": 1}] X[it is not of the form name(key=value, …): , 5]]`, nil, ""},
	{"pythonic", `[f(n=1 2)]`, `X[behind the argument "n" stands neither a comma nor ): [f(n=1 2)]]`, nil, ""},
	{"pythonic", `[f(1, 2, 3, 4, 5, 6)]`, `X[argument 6 has no name: [f(1, 2, 3, 4, 5, 6)]]`, nil, ""},
	{"pythonic", `[f(s="a`, `X[it has no closing bracket: [f(s="a]`, nil, ""},
	{"pythonic", `[f(o={1: 2})]`, `X[the argument "o": a key of a dict is no string: [f(o={1: 2})]]`, nil, ""},
	{"pythonic", `<|tool_call_start|>[]<|tool_call_end|>`, `M[<|tool_call_start|>[]<|tool_call_end|>]`, lfm, ""},
	{"pythonic", `<|tool_call_start|>what<|tool_call_end|>`, `X[it is not of the form name(key=value, …): <|tool_call_start|>what] M[<|tool_call_end|>]`, lfm, ""},
}

var mistralExamples = []example{
	{"mistral", `[TOOL_CALLS][{"name": "f", "arguments": {"n": 1}}, {"name": "g", "arguments": {}, "id": "abcdefghi"}]`, `C[f {"n": 1}] M[, ] C[g {}] M[]]`, mistral3, ""},
	{"mistral", `[TOOL_CALLS][{"name": "f", "arguments": {"n": 1}}, {"name": "g", "arguments": {}, "id": "abcdefghi"}]`, `C[f {"n": 1}] M[, ] C[g {}] M[]]`, nil, ""},
	{"mistral", `Let me. [TOOL_CALLS]f[ARGS]{"n": 1}[TOOL_CALLS]g[ARGS]{}`, `T[Let me.] M[ ] C[f {"n": 1}] C[g {}]`, mistral3, ""},
	{"mistral", `[TOOL_CALLS]f[CALL_ID]abc123def[ARGS]{"n": 1}`, `C[f {"n": 1}]`, mistral3, ""},
	{"mistral", `[TOOL_CALLS]f{"n": 1}`, `C[f {"n": 1}]`, mistral3, ""},
	{"mistral", `[TOOL_CALLS] {"name": "f", "arguments": {}}`, `C[f {}]`, mistral3, ""},
	{"mistral", `[TOOL_CALLS][]`, `M[[TOOL_CALLS][]]`, mistral3, ""},
	{"mistral", `[TOOL_CALLS]`, `X[it has no end: it stops before its JSON object begins: [TOOL_CALLS]]`, mistral3, ""},
	{"mistral", `[TOOL_CALLS]f[ARGS]what`, `X[it is no JSON object: [TOOL_CALLS]f[ARGS]what]`, mistral3, ""},
	{"mistral", `[TOOL_CALLS][{"name": "f"`, `X[it has no end: its JSON object stops after 12 bytes: [TOOL_CALLS][{"name": "f"]`, mistral3, ""},
	{"mistral", `[TOOL_CALLS][{"name": "f"} and`, `C[f {}] M[ ] T[and]`, mistral3, ""},
	{"mistral", `[THINK]hm[/THINK]yes`, `M[[THINK]] R[hm] M[[/THINK]] T[yes]`, mistral3, ""},
	{"mistral", `a list [TOOL_CALL`, `T[a list [TOOL_CALL]`, nil, ""},
	{"cohere", `<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "f", "parameters": {"n": 1}}]<|END_ACTION|>`, `C[f {"n": 1}] M[]<|END_ACTION|>]`, nil, ""},
	{"granite", `<|tool_call|>[{"name": "f", "arguments": {"n": 1}}]`, `C[f {"n": 1}] M[]]`, nil, ""},
}

var gemmaExamples = []example{
	{"gemma", `<|tool_call>call:f{s:<|"|>a } b<|"|>,n:1,l:[1,<|"|>x<|"|>],o:{<|"|>k<|"|>:null}}<tool_call|>`, `C[f {"s": "a } b", "n": 1, "l": [1, "x"], "o": {"k": null}}] M[<tool_call|>]`, gemma4, ""},
	{"gemma", `<|tool_call>call:g{}<tool_call|><|tool_call>call:f{b:true}<tool_call|>`, `C[g {}] M[<tool_call|>] C[f {"b": true}] M[<tool_call|>]`, gemma4, ""},
	{"gemma", `<start_function_call>call:f{s:<escape>a,b<escape>}<end_function_call>`, `C[f {"s": "a,b"}] M[<end_function_call>]`, nil, ""},
	{"gemma", `<|tool_call>call:f{s:plain words,n:2}<tool_call|>`, `C[f {"s": "plain words", "n": 2}] M[<tool_call|>]`, gemma4, ""},
	{"gemma", `<|tool_call>call:f{s:}<tool_call|>`, `X[byte 9 of the call: a value is missing: <|tool_call>call:f{s:}] M[<tool_call|>]`, gemma4, ""},
	{"gemma", `<|tool_call>call:f{s}<tool_call|>`, `X[byte 8 of the call: the key "s" is not followed by a colon: <|tool_call>call:f{s}] M[<tool_call|>]`, gemma4, ""},
	{"gemma", `<|tool_call>call:f{n:1,n:2}<tool_call|>`, `X[byte 14 of the call: the key "n" stands twice: <|tool_call>call:f{n:1,n:2}] M[<tool_call|>]`, gemma4, ""},
	{"gemma", `<|tool_call>f{n:1}<tool_call|>`, `X[it is not of the form call:name{key:value,…}: <|tool_call>f{n:1}] M[<tool_call|>]`, gemma4, ""},
	{"gemma", `<|tool_call>call:f{s:<|"|>a<tool_call|>`, `X[it is not closed with }: <|tool_call>call:f{s:<|"|>a] M[<tool_call|>]`, gemma4, ""},
	{"gemma", `<|tool_call>call:f<tool_call|>ok`, `X[it is not of the form call:name{key:value,…}: <|tool_call>call:f] M[<tool_call|>] T[ok]`, gemma4, ""},
	{"gemma", "<|channel>thought\nhm\n<channel|>yes", "M[<|channel>] R[thought\nhm] M[\n<channel|>] T[yes]", gemma4, ""},
	{"fenced", "```tool_code\nprint(get_weather(city=\"Rome\"))\n```", "C[get_weather {\"city\": \"Rome\"}] M[)\n```]", nil, ""},
}

var deepseekExamples = []example{
	{"deepseek", v3Open + "function" + v3Sep + "f\n```json\n{\"n\": 1}\n```" + v3End + v3Close, "C[f {\"n\": 1}] M[\n```" + v3End + v3Close + "]", dseek, ""},
	{"deepseek", v3Open + "f" + v3Sep + `{"n": 1}` + v3End + "<｜tool▁call▁begin｜>g" + v3Sep + "{}" + v3End + v3Close + " ok", `C[f {"n": 1}] M[` + v3End + `] C[g {}] M[` + v3End + v3Close + " ] T[ok]", dseek, ""},
	{"deepseek", v3Open + "f" + v3Sep + `{"n": 1}` + v3End + v3Close, `C[f {"n": 1}] M[` + v3End + v3Close + "]", nil, ""},
	{"deepseek", "<｜tool▁call▁begin｜>f" + v3Sep + `{"n": 1}`, `C[f {"n": 1}]`, dseek, ""},
	{"deepseek", v3Open + "f" + v3End + v3Close, `X[it has no <｜tool▁sep｜> behind its name: ` + v3Open + "f] M[" + v3End + v3Close + "]", dseek, ""},
	{"deepseek", v3Open + "function" + v3Sep + "f" + v3End, `X[the name is not followed by a JSON object: ` + v3Open + "function" + v3Sep + "f] M[" + v3End + "]", dseek, ""},
	{"deepseek", "<｜tool▁calls▁begin｜>what" + v3Close, `X[<｜tool▁calls▁begin｜> is not followed by <｜tool▁call▁begin｜>: <｜tool▁calls▁begin｜>what] M[` + v3Close + "]", dseek, ""},
	{"deepseek", v3Open + "f" + v3Sep + `{"n": 1` + v3End, `X[its JSON object is malformed at byte 7, before it is closed: ` + v3Open + "f" + v3Sep + `{"n": 1] M[` + v3End + "]", dseek, ""},
	{"deepseek", v3Open, "X[it has no <｜tool▁sep｜> behind its name: " + v3Open + "]", dseek, ""},
	{"deepseek", "<think>\nhm\n</think>\n\nyes", "M[<think>\n] R[hm] M[\n</think>\n\n] T[yes]", dseek, ""},
	{"deepseek", "hm\n</think>\n\nyes", "R[hm] M[\n</think>\n\n] T[yes]", dseek, "<think>\n"},
	{"kimi", "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"n\": 1}<|tool_call_end|><|tool_calls_section_end|>",
		`C[f {"n": 1}] M[<|tool_call_end|><|tool_calls_section_end|>]`, kimi, ""},
}

const (
	m2Call  = "<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"s\">a b</parameter>\n<parameter name=\"n\">3</parameter>\n</invoke>\n</minimax:tool_call>"
	v32Open = "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"
	v32End  = "</｜DSML｜invoke>\n</｜DSML｜function_calls>"
)

var invokeExamples = []example{
	{"minimax", m2Call, `C[f {"s": "a b", "n": 3}] M[` + "\n</minimax:tool_call>]", m2, ""},
	{"minimax", m2Call, `C[f {"s": "a b", "n": 3}] M[` + "\n</minimax:tool_call>]", nil, ""},
	{"minimax", "ok\n<minimax:tool_call>\n<invoke name=\"g\">\n</invoke>\n<invoke name=\"f\"><parameter name=\"s\">\n<b>\n</parameter></invoke>\n</minimax:tool_call>\ndone",
		"T[ok] M[\n] C[g {}] M[\n] C[f {\"s\": \"<b>\"}] M[\n</minimax:tool_call>\n] T[done]", m2, ""},
	{"minimax", "<invoke name=\"f\">\n<parameter name=\"n\">1</parameter>\n</invoke>", `C[f {"n": 1}]`, m2, ""},
	{"minimax", "<invoke name=f><parameter name=n>1</parameter></invoke>", `C[f {"n": 1}]`, nil, ""},
	{"minimax", "<invoke name=\"unknown\">", "T[<invoke name=\"unknown\">]", m2, ""},
	{"minimax", "<minimax:tool_call>\nf()\n</minimax:tool_call>", "X[<minimax:tool_call> is not followed by <invoke name=: <minimax:tool_call>\nf()\n] M[</minimax:tool_call>]", m2, ""},
	{"minimax", "<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"s\">a", "X[the parameter \"s\" has no </parameter>: <minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"s\">a]", m2, ""},
	{"minimax", "<minimax:tool_call><invoke name=\"f\">what</invoke></minimax:tool_call>", "X[byte 17 of the call is neither <parameter name=NAME> nor </invoke>: <minimax:tool_call><invoke name=\"f\">what</invoke>] M[</minimax:tool_call>]", m2, ""},
	{"minimax", "<tool_calls>\n{\"name\": \"f\", \"arguments\": {\"n\": 1}}\n{\"name\": \"g\", \"arguments\": {}}\n</tool_calls>", "C[f {\"n\": 1}] M[\n] C[g {}] M[\n</tool_calls>]", nil, ""},
	{"minimax", "<tool_calls>[{\"name\": \"f\", \"arguments\": {}}]</tool_calls>", "C[f {}] M[]</tool_calls>]", nil, ""},
	{"minimax", "<think>hm</think>\n<minimax:tool_call>\n<invoke name=\"g\">\n</invoke>\n</minimax:tool_call>", "M[<think>] R[hm] M[</think>\n] C[g {}] M[\n</minimax:tool_call>]", m2, ""},
	{"deepseek-v3.2", v32Open + "<｜DSML｜parameter name=\"n\" string=\"false\">1</｜DSML｜parameter>\n<｜DSML｜parameter name=\"s\" string=\"true\">\n2\n</｜DSML｜parameter>\n" + v32End,
		`C[f {"n": 1, "s": "\n2\n"}] M[` + "\n</｜DSML｜function_calls>]", v32, ""},
	{"deepseek-v3.2", v32Open + "<｜DSML｜parameter name=\"n\">1</｜DSML｜parameter>\n<｜DSML｜parameter name=\"x\" string=\"false\">[1, {}]</｜DSML｜parameter>\n" + v32End + " ok",
		`C[f {"n": 1, "x": [1, {}]}] M[` + "\n</｜DSML｜function_calls> ] T[ok]", nil, ""},
	{"deepseek-v3.2", v32Open + "<｜DSML｜parameter name=\"x\" string=\"false\">no JSON</｜DSML｜parameter>" + v32End, `C[f {"x": "no JSON"}] M[` + "\n</｜DSML｜function_calls>]", v32, ""},
	{"deepseek-v3.2", "hm\n</think>\n\n" + v32Open + v32End, "R[hm] M[\n</think>\n\n] C[f {}] M[\n</｜DSML｜function_calls>]", v32, "<think>\n"},
	{"deepseek-v3.2", v32Open + "</｜DSML｜function_calls>", "X[byte 27 of the call is neither <｜DSML｜parameter name=NAME> nor </｜DSML｜invoke>: " + v32Open + "] M[</｜DSML｜function_calls>]", v32, ""},
	{"deepseek-v3.2", "what <｜DSML｜is", "T[what <｜DSML｜is]", v32, ""},
	{"functools", ` functools[{"name": "f", "arguments": {"n": 1}}, {"name": "g", "arguments": {}}]`, `M[ ] C[f {"n": 1}] M[, ] C[g {}] M[]]`, nil, ""},
	{"functools", "Well: functools [ {\"name\": \"f\"} ] ok", "T[Well:] M[ ] C[f {}] M[ ] ] T[ok]", nil, ""},
	{"functools", "import functools\nfunctools[0] functools.cache", "T[import functools\nfunctools[0] functools.cache]", nil, ""},
	{"functools", `functools[{"name": "f", "arguments": {`, `X[it has no end: its JSON object stops after 28 bytes: functools[{"name": "f", "arguments": {]`, nil, ""},
	{"functools", "functools", "T[functools]", nil, ""},
	{"functools", "functools[", "T[functools[]", nil, ""},
}

var fencedExamples = []example{
	{"generic", "Sure:\n```json\n{\"name\": \"f\", \"arguments\": {\"n\": 1}}\n```\nDone.", "T[Sure:] M[\n] C[f {\"n\": 1}] M[\n```\n] T[Done.]", nil, ""},
	{"generic", "```json\n{\"name\": \"f\"}\n```\n```tool_code\ng()\n```\n``` and", "C[f {}] M[\n```\n] C[g {}] M[\n```\n] T[``` and]", nil, ""},
	{"generic", "```json\n{\"name\": \"unknown\"}\n```", "T[```json\n{\"name\": \"unknown\"}\n```]", nil, ""},
	{"generic", "```go\nfunc f() {}\n```", "T[```go\nfunc f() {}\n```]", nil, ""},
	{"generic", "```tool_code\nf(s=\"a\")\n```", `C[f {"s": "a"}] M[` + "\n```]", nil, ""},
	{"generic", "```python\nprint(1)\n```", "T[```python\nprint(1)\n```]", nil, ""},
	{"generic", "``` `` ```", "T[``` `` ```]", nil, ""},
	{"generic", `{"name": "f", "arguments": {"n": 1}}`, `C[f {"n": 1}]`, nil, ""},
	{"generic", `<tool_call>{"name": "f"}</tool_call>`, `C[f {}] M[</tool_call>]`, nil, ""},
	{"generic", "```json\n{\"name\": \"f\", \"arguments\": {\"n\": }}\n```", "X[no JSON: byte 0x7d at offset 33, want a value: ```json\n{\"name\": \"f\", \"arguments\": {\"n\": }}] M[\n```]", nil, ""},
	{"generic", "```\n", "T[```\n]", nil, ""},
	{"generic", "```json", "T[```json]", nil, ""},
}

var thinkExamples = []example{
	{"hermes", "<think>\nhm\n</think>\n\nyes", "M[<think>\n] R[hm] M[\n</think>\n\n] T[yes]", qwen, ""},
	{"hermes", "<think>\nhm\n</think>\n\nyes", "M[<think>\n] R[hm] M[\n</think>\n\n] T[yes]", nil, ""},
	{"hermes", "<think>\n\n</think>\n\nyes", "M[<think>\n\n</think>\n\n] T[yes]", qwen, ""},
	{"hermes", "hm\n</think>\n\nyes", "R[hm] M[\n</think>\n\n] T[yes]", qwen, "<think>\n"},
	{"hermes", "yes", "T[yes]", qwen, "<think>\n\n</think>\n\n"},
	{"hermes", "hm", "R[hm]", qwen, "<think>"},
	{"hermes", "yes</think>no", "T[yes] M[</think>] T[no]", qwen, ""},
	{"hermes", "the marks <think> and </think>", "T[the marks <think> and </think>]", nil, ""},
	{"hermes", "the marks ⟦<think>⟧ and ⟦</think>⟧", "T[the marks <think> and </think>]", qwen, ""},
	{"hermes", "a<think>b</think>c", "T[a] M[<think>] R[b] M[</think>] T[c]", qwen, ""},
	{"hermes", "<think>hm ⟦</think>⟧ <think> hm</think>yes", "M[<think>] R[hm </think> <think> hm] M[</think>] T[yes]", qwen, ""},
	{"hermes", "<think>hm</think>\n<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "M[<think>] R[hm] M[</think>\n] C[f {}] M[\n</tool_call>]", qwen, ""},
	{"hermes", "<think>hm\n<tool_call>{\"name\": \"f\"}</tool_call>", "M[<think>] R[hm] M[\n] C[f {}] M[</tool_call>]", qwen, ""},
	{"hermes", "<think>write <tool_call>{}</tool_call></think>", "M[<think>] R[write <tool_call>{}</tool_call>] M[</think>]", nil, ""},
	{"llama", "<think>hm</think>{\"name\": \"f\", \"parameters\": {}}", "M[<think>] R[hm] M[</think>] C[f {}]", nil, ""},
	{"hermes", "a" + strings.Repeat(" ", 40) + "<tool_call>{\"name\":\"f\"}", "T[a" + strings.Repeat(" ", 8) + "] M[" + strings.Repeat(" ", 32) + "] C[f {}]", nil, ""},
	{"hermes", "<thi", "T[<thi]", nil, ""},
	{"hermes", " \n<think>hm", "M[ \n<think>] R[hm]", nil, ""},
}

const begins = "<|start|>assistant"

var harmonyExamples = []example{
	{"harmony", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>",
		"M[<|channel|>analysis<|message|>] R[hm] M[<|end|><|start|>assistant<|channel|>final<|message|>] T[yes] M[<|return|>]", gptOSS, begins},
	{"harmony", "hm<|end|><|start|>assistant<|channel|>final<|message|>yes", "R[hm] M[<|end|><|start|>assistant<|channel|>final<|message|>] T[yes]", gptOSS, begins + "<|channel|>analysis<|message|>"},
	{"harmony", "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"n\": 1}<|call|>",
		`M[<|channel|>commentary to=functions.f <|constrain|>json<|message|>] C[f {"n": 1}] M[<|call|>]`, gptOSS, begins},
	{"harmony", " to=functions.f<|channel|>commentary<|constrain|>json<|message|>{\"n\": 1}", `M[ to=functions.f<|channel|>commentary<|constrain|>json<|message|>] C[f {"n": 1}]`, gptOSS, begins},
	{"harmony", "<|channel|>analysis to=functions.f json<|message|>{}<|call|>", `M[<|channel|>analysis to=functions.f json<|message|>] C[f {}] M[<|call|>]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary to=functions.f code<|message|>", `M[<|channel|>commentary to=functions.f code<|message|>] C[f {}]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary to=functions.g<|message|> <|call|>", `M[<|channel|>commentary to=functions.g<|message|>] C[g {}] M[<|call|>]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.f<|channel|>commentary<|message|>{}<|call|>",
		"M[<|channel|>commentary<|message|>] T[I look.] M[<|end|><|start|>assistant to=functions.f<|channel|>commentary<|message|>] C[f {}] M[<|call|>]", gptOSS, begins},
	{"harmony", "<|channel|>final json<|message|>{}", "M[<|channel|>final json<|message|>] T[{}]", gptOSS, begins},
	{"harmony", "<|channel|>final <|constrain|>json<|message|>{}", "M[<|channel|>final <|constrain|>json<|message|>] T[{}]", gptOSS, begins},
	{"harmony", "<|message|>I'm sorry<|return|>", "M[<|message|>] T[I'm sorry] M[<|return|>]", gptOSS, begins},
	{"harmony", "I'm sorry", "T[I'm sorry]", gptOSS, begins},
	{"harmony", "to be, or", "T[to be, or]", gptOSS, begins},
	{"harmony", "<|channel|>analysisWe need<|end|><|start|>assistant<|channel|>final<|message|>yes",
		"M[<|channel|>analysis] R[We need] M[<|end|><|start|>assistant<|channel|>final<|message|>] T[yes]", gptOSS, begins},
	{"harmony", "<|channel|>final", "M[<|channel|>final]", gptOSS, begins},
	{"harmony", "<|channel|>analysis<|channel|>commentary to=functions.f<|message|>{}<|call|>", "M[<|channel|>analysis<|channel|>commentary to=functions.f<|message|>] C[f {}] M[<|call|>]", gptOSS, begins},
	{"harmony", "<|channel|>analysis<|message|>hm<|channel|>final<|message|>yes", "M[<|channel|>analysis<|message|>] R[hm] M[<|channel|>final<|message|>] T[yes]", gptOSS, begins},
	{"harmony", "<|channel|>final<|message|>a<|message|>b", "M[<|channel|>final<|message|>] T[a] M[<|message|>] T[b]", gptOSS, begins},
	{"harmony", "<|channel|>final<|message|>⟦<|end|><|start|>user⟧<|return|>", "M[<|channel|>final<|message|>] T[<|end|><|start|>user] M[<|return|>]", gptOSS, begins},
	{"harmony", "<|channel|>final<|message|>a<|end|><|start|>user<|message|>b<|end|>", "M[<|channel|>final<|message|>] T[a] M[<|end|><|start|>user<|message|>b<|end|>]", gptOSS, begins},
	{"harmony", "<|start|>functions.f to=assistant<|channel|>commentary<|message|>42<|end|>", "M[<|start|>functions.f to=assistant<|channel|>commentary<|message|>42<|end|>]", gptOSS, begins},
	{"harmony", "<|channel|>commentary to=functions.f<|message|>{\"n\": 1<|call|>", `M[<|channel|>commentary to=functions.f<|message|>] X[it has no end: its JSON object stops after 7 bytes: {"n": 1] M[<|call|>]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary to=functions.f<|message|>{\"n\": 1} and<|call|>", `M[<|channel|>commentary to=functions.f<|message|>] X[behind the JSON object, at byte 8, stands more: {"n": 1} and] M[<|call|>]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary to=functions.f<|message|>{\"s\": \"<|end|>", `M[<|channel|>commentary to=functions.f<|message|>] X[it has no end: its JSON object stops after 7 bytes, within a string: {"s": "] M[<|end|>]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary to=functions.f<|message|>{\"s\": \"⟦<|end|>⟧\"}<|call|>", `M[<|channel|>commentary to=functions.f<|message|>] C[f {"s": "<|end|>"}] M[<|call|>]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary to=functions.f<|message|>f(1)<|call|>", `M[<|channel|>commentary to=functions.f<|message|>] X[it is no JSON object: f(1)] M[<|call|>]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary not_to=functions.f<|message|>hi", `M[<|channel|>commentary not_to=functions.f<|message|>] T[hi]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary functions.f json<|message|>{}", `M[<|channel|>commentary functions.f json<|message|>] C[f {}]`, gptOSS, begins},
	{"harmony", "<|channel|>commentary to= functions.f<|message|>{}", `M[<|channel|>commentary to= functions.f<|message|>] C[f {}]`, gptOSS, begins},
	{"harmony", "{\"n\": 1}<|call|>", `C[f {"n": 1}] M[<|call|>]`, gptOSS, begins + " to=functions.f<|channel|>commentary<|constrain|>json<|message|>"},
	{"harmony", "<|message|>{}<|call|>", `M[<|message|>] C[f {}] M[<|call|>]`, gptOSS, begins + " to=functions.f<|channel|>commentary"},
	{"harmony", "<|end|><|end|><|channel|>final<|message|>a", "M[<|end|><|end|><|channel|>final<|message|>] T[a]", gptOSS, begins},
	{"harmony", "<|channel|>" + strings.Repeat("x", 300), "M[<|channel|>] T[" + strings.Repeat("x", 300) + "]", gptOSS, begins},
	{"harmony", "<|end|><|start|>" + strings.Repeat("x", 300), "M[<|end|><|start|>] T[" + strings.Repeat("x", 300) + "]", gptOSS, begins},
	{"harmony", "", "", gptOSS, begins},
}
