package main

// The breaks that tests of prompts and parsers must find.
func init() {
	plants = append(plants, []plant{
		{"P6, splits", "agent/parse/machine.go", "\t\t\tn -= m.input.begun(tags)\n", "", "./agent/parse", "TestP6", nil},
		{"P6, no byte is lost", "agent/parse/machine.go", "\tm.emit(m.prose, at-space)\n\tm.emit(Markup, space+len(t.literal))\n", "\tm.emit(m.prose, at-space)\n\tm.drop(space + len(t.literal))\n", "./agent/parse", "TestP6", nil},
		{"P6, tokens are no text", "agent/parse/format.go", "\t\tt.id = ids[0]\n", "", "./agent/parse", "TestP6", nil},
		{"P6, bad calls", "agent/parse/jsoncall.go", "\tif err != nil {\n\t\tc.Problem = err.Message\n", "\tif err != nil && raw == nil {\n\t\tc.Problem = err.Message\n", "./agent/parse", "TestP6", nil},
		{"P6, bounds", "agent/parse/jsoncall.go", "o.pos < min(len(in.buf), maxCall)", "o.pos < len(in.buf)", "./agent/parse", "TestEndlessCalls", nil},
		{"Harmony, ids", "agent/prompt/harmony.go", "\t\tw.text(\" \")\n", "", "./agent/prompt", "TestHarmonyIsExact", nil},
		{"Harmony, tools", "agent/prompt/typescript.go", "\t\t\tif k == \"integer\" {\n", "\t\t\tif k == \"\" {\n", "./agent/prompt", "TestHarmonyIsExact", nil},
		{"Harmony, reasoning", "agent/prompt/harmony.go", "reasoning != \"\" && reasons", "reasoning != \"\"", "./agent/prompt", "TestHarmonyIsExact", nil},
		{"Harmony, answers", "agent/parse/harmony.go", "\t\t\tcase i == 0 && part == h.tags.channel:\n", "\t\t\tcase i == 1 && part == h.tags.channel:\n", "./agent/parse", "TestHarmonyParsesAsOpenAI", nil},
		{"P5, Harmony", "agent/prompt/harmony.go", "w.h.tokenizer.Encode(s, false)", "w.h.tokenizer.Encode(s, true)", "./agent/prompt", "TestP5Harmony", nil},
		{"P4, templates", "agent/prompt/template.go", "\tv.raw(`,\"description\":`)\n", "\tv.raw(`,\"describes\":`)\n", ".", "TestP4RealTemplates", nil},
		{"P5, templates", "agent/prompt/safe.go", "\t\tif other[i].path == \"\" {\n", "\t\tif other[i].path == \"\" || strings.HasPrefix(other[i].path, \"/tools\") {\n", ".", "TestP5RealTemplates", nil},
		{"T6, approvals", "agent/toolcalls.go", "tool.Approval == schema.ApprovalAsk && !t.approved", "tool.Kind == \"execute\" && !t.approved", "./agent", "TestT6PolicyMatrix", nil},
		{"T6, definitions", "agent/toolcalls.go", "allowance{t.params.SessionID, tool.Digest}", "allowance{t.params.SessionID, tool.Name}", "./agent", "TestT6PolicyMatrix", nil},
		{"T7, injections", "agent/toolcalls.go", "\tcase schema.AllowOnce:\n\t\treturn true\n\t}\n\treturn false\n", "\t}\n\treturn true\n", "./agent", "TestT7Injections", nil},
		{"T8, the same call", "agent/toolcalls.go", "count[call] > maxSame", "count[call] > 2*maxSame", "./agent", "TestT8LoopGuard", nil},
		{"T8, rounds", "agent/toolcalls.go", "t.round+1-t.retried >= cmp.Or", "t.round-t.retried >= cmp.Or", "./agent", "TestT8LoopGuard", nil},
		{"P7, steps", "schema/effort.go", "\t\tn += e.of(s, p)\n", "\t\tn = max(n, e.of(s, p))\n", "./schema", "TestEffort", nil},
		{"settings act", "agent/turnsettings.go", "\treq.StopIDs = t.tuned.ends\n", "", "./agent", "TestEveryKeyActs", nil},
		{"settings, precedence", "agent/settings.go", "c.request.Merge(turn)", "turn.Merge(c.request)", "./agent", "TestRequestGoesBeforeSettings", nil},
		{"repairs leave nothing behind", "agent/turnsettings.go", "\tif t.attempt > 0 {\n\t\tp.Sampling = firmer(p.Sampling, t.retry)", "\tif t.attempt > 0 {\n\t\tt.params.Sampling = firmer(p.Sampling, t.retry)\n\t\tp.Sampling = t.params.Sampling", "./agent", "TestRepairs", nil},
		{"reasoning budget", "agent/budget.go", "prompt = slices.Concat(prompt, t.ids, mark)", "prompt = slices.Concat(prompt, mark)", "./agent", "TestReasoningBudget", nil},
		{"fallbacks", "agent/prompt/fit.go", "\tcase calls && !a.parallel:\n", "\tcase calls && a.parallel:\n", "./agent/prompt", "TestFit", nil},
		{"constrained calls, values", "agent/parse/qwencoder.go", "\"\\n\", condition, m.parameterEnd, m.parameter)", "\"\\n\", condition)", ".", "TestConstrainedCallsAreCalls", nil},
		{"constrained calls, marks", "agent/parse/machine.go", "t.isToken() || m.prose == Text && m.mayOpen(t)", "t.isToken() || m.prose == Text", "./agent/parse", "TestExact", nil},
		{"unconstrained keywords", "schema/hold.go", "\tif h.check(h.without()) == nil {\n\t\treturn\n", "\tif len(paths) > 1 || h.check(h.without()) == nil {\n\t\treturn\n", ".", "TestUnconstrainedIsNamed", nil},
		{"a turn compiles once", "engine/grammars.go", "\t\tif g.constraint == c {\n", "\t\tif g.constraint == c && g.users > 0 {\n", "./engine", "TestATurnCompilesOnce", nil},
		{"one upload a step", "engine/sample/process.go", "\twords := s.FromUint32s(mask, len(mask))\n", "\ts.FromUint32s(mask, len(mask))\n\twords := s.FromUint32s(mask, len(mask))\n", "./engine", "TestOneUploadAStep", nil},
	}...)
}
