package parse

// dsml is the token that is part of each mark of DeepSeek V3.2.
const dsml = "｜DSML｜"

var dsmlMarkup = markup{"<" + dsml + "invoke name=", "</" + dsml + "invoke>", "<" + dsml + "parameter name=", "</" + dsml + "parameter>", false}

// newDeepSeek32 is the format of DeepSeek V3.2: that of MiniMax with other marks, in which
// a parameter says whether its value is a string.
//
//	<｜DSML｜function_calls>
//	<｜DSML｜invoke name="f">
//	<｜DSML｜parameter name="key" string="true">value</｜DSML｜parameter>
//	</｜DSML｜invoke>
//	</｜DSML｜function_calls>
func newDeepSeek32(tags *tagger, tools *toolbox) dialect {
	tags.inline(dsml)
	return newInvokes(tags, tools, "<"+dsml+"function_calls>", "</"+dsml+"function_calls>", dsmlMarkup)
}

func writeDeepSeek32(w *writer) form {
	return w.invokes("<"+dsml+"function_calls>", "</"+dsml+"function_calls>", dsmlMarkup)
}
