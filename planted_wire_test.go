package main

// The breaks that tests of the wire must find.
func init() {
	plants = append(plants, []plant{
		{"R1, pieces", "rpc/frame.go", "f.r.Peek(len(byteOrderMark))", "f.r.Peek(min(len(byteOrderMark), f.r.Buffered()))", "./rpc", "TestFrameMutants", nil},
		{"R1, lines", "rpc/frame.go", "\t\t\tf.skipLine = err != nil\n\t\t\treturn", "\t\t\tf.skipLine = true\n\t\t\treturn", "./rpc", "TestFrameMutants", nil},
		{"R1, sizes", "rpc/frame.go", "\tif h.length > f.limits.MaxMessageBytes {", "\tif h.length > 4*f.limits.MaxMessageBytes {", "./rpc", "TestFrameMutants", nil},
		{"R2", "rpc/conn.go", "\t\tc.stream.out.add(item{body: appendError(nil, r.id, err), atOnce: true})\n", "", "./rpc", "TestServeMutants", nil},
		{"R3, bad headers", "rpc/frame.go", "\t\tif h.length >= 0 {\n\t\t\treturn badHeader(\"Content-Length stands twice\")\n\t\t}\n", "", "./rpc", "TestBadInput", nil},
		{"R3, the connection lives", "rpc/frame.go", "\t\tf.resync = true\n", "", "./rpc", "TestBadInput", nil},
		{"R3, error returns", "rpc/frame_test.go", "^Test(Frame|BadInput|LongHeader)", "^TestBadInput", "./rpc", "TestEveryStatementOfFraming", nil},
		{"R13, transcripts", "rpc/methods.go", "\tbegin(\"generate\",", "\tbegin(\"untried\", \"Is in no transcript.\", call, (*conn).generate),\n\tbegin(\"generate\",", "./rpc", "TestTranscriptsShowEverything", nil},
		{"R13, editors' types", "schema/errors.go", "{KindCancelled, -32800, false,", "{KindCancelled, -32800, true,", "./rpc", "TestSchemaIsFresh", nil},
		{"R10", "rpc/handlers.go", "\t\t\tg.cancel(errByClient)\n", "\t\t\t_ = g\n", "./rpc", "TestTranscripts$", nil},
		{"S1", "rpc/batch.go", "\tp.text = append(p.text, text...)\n", "\tp.text = append(append([]byte(nil), p.text...), text...)\n", "./rpc", "TestBatchAllocations", nil},
		{"S2, first", "rpc/batch.go", "\tcase !g.spoken, switching,\n", "\tcase switching,\n", "./rpc", "TestTranscripts$", nil},
		{"S2, gaps", "rpc/batch.go", "defaultInterval  = 33 * time.Millisecond", "defaultInterval  = 40 * time.Millisecond", "./rpc", "TestTranscripts$", nil},
	}...)
}
