package mlx

import "math"

// Wrong calls of constants, fused and quantized operations and host data.

func addCreation(add adder) {
	add("full", func(o *operands, s *Scope) Array { return s.Full(Float32, 1, -1) })
	add("full", func(o *operands, s *Scope) Array { return s.Full(99, 1, 1) })
	add("full", func(o *operands, s *Scope) Array { return s.Zeros(Float32, 1<<30, 1<<30) })
	add("full", func(o *operands, s *Scope) Array { return s.Ones(Float32, make([]int, 9)...) })
	add("full", func(o *operands, s *Scope) Array { return s.Zeros(Float32, big) })
	add("full", func(o *operands, s *Scope) Array { return s.Full(Dtype(13), 1, 2) })
	add("arange", func(o *operands, s *Scope) Array { return s.Arange(Int32, 0, 5, 0) })
	add("arange", func(o *operands, s *Scope) Array { return s.Arange(Float32, 0, math.Inf(1), 1) })
	add("arange", func(o *operands, s *Scope) Array { return s.Arange(-3, 0, 5, 1) })
	add("arange", func(o *operands, s *Scope) Array { return s.Arange(Bool, 0, 5, 1) })
	add("tri", func(o *operands, s *Scope) Array { return s.Tri(Float32, -1, 2, 0) })
	add("tri", func(o *operands, s *Scope) Array { return s.Tri(Float32, 2, big, 0) })
	add("tri", func(o *operands, s *Scope) Array { return s.Tri(77, 2, 2, 0) })
	add("tri", func(o *operands, s *Scope) Array {
		return s.Tri(Float32, math.MaxInt32, math.MaxInt32, 0)
	})
	add("random_split absent", func(o *operands, s *Scope) Array {
		a, _ := s.SplitKey(o.none)
		return a
	})
	add("random_split [3]", func(o *operands, s *Scope) Array {
		a, _ := s.SplitKey(o.i)
		return a
	})
	add("categorical [4 8] x absent", func(o *operands, s *Scope) Array {
		return s.Categorical(o.m, -1, o.none)
	})
	add("categorical [4 8] x [2]", func(o *operands, s *Scope) Array {
		return s.Categorical(o.m, 2, o.key)
	})
	add("categorical [4 8] x [8]", func(o *operands, s *Scope) Array {
		return s.Categorical(o.m, -1, o.v)
	})
	for name, f := range map[string]func(*Scope, Array, Dtype, ...int) Array{
		"uniform": (*Scope).Uniform, "gumbel": (*Scope).Gumbel,
	} {
		add(name+" absent", func(o *operands, s *Scope) Array { return f(s, o.none, Float32, 2) })
		add(name+" [2]", func(o *operands, s *Scope) Array { return f(s, o.key, Int32, 2) })
		add(name+" [2]", func(o *operands, s *Scope) Array { return f(s, o.key, Float32, -2) })
		add(name+" [3]", func(o *operands, s *Scope) Array { return f(s, o.i, Float32, 2) })
	}
}

func addFused(add adder) {
	add("rms_norm [4 8] x [3]", func(o *operands, s *Scope) Array { return s.RMSNorm(o.m, o.i, 1e-5) })
	add("rms_norm [4 8] x [4 8]", func(o *operands, s *Scope) Array {
		return s.RMSNorm(o.m, o.m, 1e-5)
	})
	add("rms_norm [] x absent", func(o *operands, s *Scope) Array {
		return s.RMSNorm(o.one, o.none, 1e-5)
	})
	add("rms_norm absent x [8]", func(o *operands, s *Scope) Array {
		return s.RMSNorm(o.none, o.v, 1e-5)
	})
	add("rms_norm [3] x absent", func(o *operands, s *Scope) Array {
		return s.RMSNorm(o.i, o.none, 1e-5)
	})
	add("layer_norm [4 8] x [3] x absent", func(o *operands, s *Scope) Array {
		return s.LayerNorm(o.m, o.i, o.none, 1e-5)
	})
	add("layer_norm [4 8] x [8] x [3]", func(o *operands, s *Scope) Array {
		return s.LayerNorm(o.m, o.v, o.i, 1e-5)
	})
	add("layer_norm [] x absent x absent", func(o *operands, s *Scope) Array {
		return s.LayerNorm(o.one, o.none, o.none, 1e-5)
	})
	rope := func(o *operands, x Array, d int, base float32, offset int, freqs Array) Array {
		return o.s.RoPE(x, d, false, base, 1, offset, freqs)
	}
	add("rope [4 8] x absent", func(o *operands, s *Scope) Array {
		return rope(o, o.m, 8, 1e4, 0, o.none)
	})
	add("rope [1 4 3 8] x absent", func(o *operands, s *Scope) Array {
		return rope(o, o.q, 10, 1e4, 0, o.none)
	})
	add("rope [1 2 5 8] x absent", func(o *operands, s *Scope) Array {
		return rope(o, o.k, 8, 1e4, big, o.none)
	})
	add("rope [1 4 3 8] x absent", func(o *operands, s *Scope) Array {
		return rope(o, o.q, 8, 0, 0, o.none)
	})
	add("rope [1 4 3 8] x [8]", func(o *operands, s *Scope) Array {
		return rope(o, o.q, 8, 0, 0, o.v)
	})
	add("rope [1 4 3 8] x [4]", func(o *operands, s *Scope) Array {
		return rope(o, o.q, 8, 1e4, 0, s.SliceAxis(o.v, 0, 0, 4))
	})
	add("rope absent x absent", func(o *operands, s *Scope) Array {
		return rope(o, o.none, 8, 1e4, 0, o.none)
	})
	add("rope [1 1 3] x absent", func(o *operands, s *Scope) Array {
		return rope(o, s.Reshape(o.i, 1, 1, 3), 2, 1e4, 0, o.none)
	})
	dynamic := func(o *operands, x, offset Array, d int) Array {
		return o.s.RoPEDynamic(x, d, false, 1e4, 1, offset, o.none)
	}
	add("rope_dynamic [1 4 3 8] x [3] x absent", func(o *operands, s *Scope) Array {
		return dynamic(o, o.q, o.i, 8)
	})
	add("rope_dynamic [1 4 3 8] x [] x absent", func(o *operands, s *Scope) Array {
		return dynamic(o, o.q, o.one, 8)
	})
	add("rope_dynamic [1 4 3 8] x [2] x absent", func(o *operands, s *Scope) Array {
		return dynamic(o, o.q, o.key, 7)
	})
	add("rope_dynamic [1 4 3 8] x absent x absent", func(o *operands, s *Scope) Array {
		return dynamic(o, o.q, o.none, 8)
	})
	addAttention(add)
}

func addAttention(add adder) {
	sdpa := func(o *operands, q, k, v Array, mode MaskMode, mask, sinks Array) Array {
		return o.s.SDPA(q, k, v, 1, mode, mask, sinks)
	}
	add("sdpa [4 8] x [1 2 5 8] x [1 2 5 8] x absent x absent", func(o *operands, s *Scope) Array {
		return sdpa(o, o.m, o.k, o.k, MaskNone, o.none, o.none)
	})
	add("sdpa [1 4 3 8] x [1 4 3 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.q, o.k, MaskNone, o.none, o.none)
		})
	add("sdpa [1 2 5 8] x [1 4 3 8] x [1 4 3 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.k, o.q, o.q, MaskNone, o.none, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x [4 8] x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, MaskArray, o.b, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x [4 8] x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, MaskCausal, o.b, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, MaskArray, o.none, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, 7, o.none, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x absent x [8]",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.k, o.k, MaskNone, o.none, o.v)
		})
	add("sdpa [1 4 3 8] x absent x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, o.q, o.none, o.k, MaskNone, o.none, o.none)
		})
	add("sdpa [1 4 3 8] x [1 0 5 8] x [1 0 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			none := s.SliceAxis(o.k, 1, 0, 0)
			return sdpa(o, o.q, none, none, MaskNone, o.none, o.none)
		})
	add("sdpa [1 4 3 4] x [1 2 5 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, s.SliceAxis(o.q, -1, 0, 4), o.k, o.k, MaskNone, o.none, o.none)
		})
	add("sdpa [1 4 3 8] x [1 2 5 8] x [1 2 5 8] x absent x absent",
		func(o *operands, s *Scope) Array {
			return sdpa(o, s.AsType(o.q, Int32), s.AsType(o.k, Int32), s.AsType(o.k, Int32), MaskNone,
				o.none, o.none)
		})
}

func addQuantized(add adder) {
	qmm := func(o *operands, x, w, sc, b Array, group, bits int, mode Mode) Array {
		return o.s.QuantizedMatmul(x, w, sc, b, true, group, bits, mode)
	}
	call := func(want string, group, bits int, mode Mode, pick func(o *operands) (x, w, sc, b Array)) {
		add("quantized_matmul "+want, func(o *operands, s *Scope) Array {
			x, w, sc, b := pick(o)
			return qmm(o, x, w, sc, b, group, bits, mode)
		})
	}
	good := func(o *operands) (x, w, sc, b Array) { return o.x, o.w, o.sc, o.sc }
	const shapes = "[1 64] x [32 8] x [32 2] x [32 2]"
	call(shapes, 32, 5, Affine, good)
	call(shapes, 48, 4, Affine, good)
	call(shapes, 64, 4, Affine, good)
	call(shapes, 32, 9, Affine, good)
	call(shapes, big, 4, Affine, good)
	call(shapes, 32, 4, 9, good)
	call(shapes, 32, 7, Affine, good)
	call(shapes, 32, 4, MXFP4, good)
	call("[4 8] x [32 8] x [32 2] x [32 2]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.m, o.w, o.sc, o.sc
	})
	call("[1 64] x [32 8] x [4 8] x [4 8]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.x, o.w, o.m, o.m
	})
	call("[1 64] x [16 8] x [32 2] x [32 2]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.x, o.n, o.sc, o.sc
	})
	call("[1 64] x [32 8] x [32 2] x absent", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.x, o.w, o.sc, o.none
	})
	call("[1 64] x [32 8] x absent x absent", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.x, o.w, o.none, o.none
	})
	call("absent x [32 8] x [32 2] x [32 2]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.none, o.w, o.sc, o.sc
	})
	call("[0 64] x [32 8] x [32 2] x [32 2]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		return o.s.SliceAxis(o.x, 0, 0, 0), o.w, o.sc, o.sc
	})
	call("[1 0] x [32 0] x [32 0] x [32 0]", 32, 4, Affine, func(o *operands) (x, w, sc, b Array) {
		none := o.s.SliceAxis(o.sc, 1, 0, 0)
		return o.s.SliceAxis(o.x, 1, 0, 0), o.s.SliceAxis(o.w, 1, 0, 0), none, none
	})
	addConversions(add)
	addGathers(add)
	addEmptyGathers(add)
}

func addConversions(add adder) {
	dq := func(o *operands, w, sc, b Array, group, bits int, mode Mode, d Dtype) Array {
		return o.s.Dequantize(w, sc, b, group, bits, mode, d)
	}
	add("dequantize [32 8] x [32 2] x [32 2]", func(o *operands, s *Scope) Array {
		return dq(o, o.w, o.sc, o.sc, 64, 4, Affine, Float32)
	})
	add("dequantize [32 8] x [32 2] x [32 2]", func(o *operands, s *Scope) Array {
		return dq(o, o.w, o.sc, o.sc, 32, 4, Affine, Int32)
	})
	add("dequantize [32 8] x [32 2] x absent", func(o *operands, s *Scope) Array {
		return dq(o, o.w, o.sc, o.none, 32, 4, Affine, Float32)
	})
	add("dequantize [16 8] x [32 2] x [32 2]", func(o *operands, s *Scope) Array {
		return dq(o, o.n, o.sc, o.sc, 32, 4, Affine, Float32)
	})
	add("dequantize [32 8] x [32 2] x absent", func(o *operands, s *Scope) Array {
		return dq(o, o.w, o.sc, o.none, 32, 4, MXFP4, Float32)
	})
	q := func(o *operands, w Array, group, bits int, mode Mode) Array {
		a, _, _ := o.s.Quantize(w, group, bits, mode)
		return a
	}
	add("quantize [1 64]", func(o *operands, s *Scope) Array { return q(o, o.x, 33, 4, Affine) })
	add("quantize [1 64]", func(o *operands, s *Scope) Array { return q(o, o.x, 32, 7, Affine) })
	add("quantize [4 8]", func(o *operands, s *Scope) Array { return q(o, o.m, 32, 4, Affine) })
	add("quantize [32 8]", func(o *operands, s *Scope) Array { return q(o, o.w, 32, 4, Affine) })
	add("quantize [8]", func(o *operands, s *Scope) Array { return q(o, o.v, 32, 4, Affine) })
	add("quantize [1 64]", func(o *operands, s *Scope) Array { return q(o, o.x, 32, 4, -1) })
	add("quantize [1 64]", func(o *operands, s *Scope) Array { return q(o, o.x, 32, 5, MXFP4) })
	add("quantize absent", func(o *operands, s *Scope) Array { return q(o, o.none, 32, 4, Affine) })
}

func addGathers(add adder) {
	add("gather_mm [4 8] x [3 8 2] x absent x [8]", func(o *operands, s *Scope) Array {
		return s.GatherMM(o.m, o.experts, o.none, o.v, false)
	})
	add("gather_mm [4 8] x [16 8] x absent x [3]", func(o *operands, s *Scope) Array {
		return s.GatherMM(o.m, o.n, o.none, o.i, false)
	})
	add("gather_mm [3] x [3 8 2] x absent x [3]", func(o *operands, s *Scope) Array {
		return s.GatherMM(s.AsType(o.i, Float32), o.experts, o.none, o.i, false)
	})
	add("gather_mm absent x [3 8 2] x absent x [3]", func(o *operands, s *Scope) Array {
		return s.GatherMM(o.none, o.experts, o.none, o.i, false)
	})
	add("gather_qmm [1 64] x [32 8] x [32 2] x [32 2] x absent x [8]",
		func(o *operands, s *Scope) Array {
			return s.GatherQMM(o.x, o.w, o.sc, o.sc, o.none, o.v, true, 32, 4, Affine, false)
		})
	add("gather_qmm [1 64] x [32 8] x [32 2] x absent x absent x [3]",
		func(o *operands, s *Scope) Array {
			return s.GatherQMM(o.x, o.w, o.sc, o.none, o.none, o.i, true, 32, 4, Affine, false)
		})
	add("gather_qmm [4 8] x [32 8] x [32 2] x [32 2] x absent x [3]",
		func(o *operands, s *Scope) Array {
			return s.GatherQMM(o.m, o.w, o.sc, o.sc, o.none, o.i, true, 32, 4, Affine, false)
		})
}

func addEmptyGathers(add adder) {
	gather := func(o *operands, x, w, sc Array) Array {
		return o.s.GatherQMM(x, w, sc, sc, o.none, o.i, true, 32, 4, Affine, false)
	}
	add("gather_qmm [0 64] x [32 8] x [32 2] x [32 2] x absent x [3]",
		func(o *operands, s *Scope) Array { return gather(o, s.SliceAxis(o.x, 0, 0, 0), o.w, o.sc) })
	add("gather_qmm [1 64] x [0 8] x [0 2] x [0 2] x absent x [3]",
		func(o *operands, s *Scope) Array {
			return gather(o, o.x, s.SliceAxis(o.w, 0, 0, 0), s.SliceAxis(o.sc, 0, 0, 0))
		})
}

func addHost(add adder) {
	add("from_data", func(o *operands, s *Scope) Array { return s.FromInt32s([]int32{1, 2, 3}, 2) })
	add("from_data", func(o *operands, s *Scope) Array {
		return s.FromBytes([]byte{1, 2, 3, 4}, Float32, -1)
	})
	add("from_data", func(o *operands, s *Scope) Array { return s.FromBytes(make([]byte, 4), 44, 1) })
	add("from_data", func(o *operands, s *Scope) Array {
		return s.FromUint32s(nil, 1, 1, 1, 1, 1, 1, 1, 1, 0)
	})
	add("from_data", func(o *operands, s *Scope) Array {
		return s.FromFloat32s(nil, 1<<30, 1<<30, 1<<30)
	})
	add("from_data", func(o *operands, s *Scope) Array { return s.FromFloat32s(nil, big, 0) })
	add("from_buffer", func(o *operands, s *Scope) Array {
		b, _ := NewBuffer(12)
		defer b.Free()
		return b.Array(s, Float32, 4)
	})
	add("from_buffer: the buffer was freed", func(o *operands, s *Scope) Array {
		b, _ := NewBuffer(12)
		b.Free()
		return b.Array(s, Float32, 3)
	})
	add("item [8]", func(o *operands, s *Scope) Array { s.ItemFloat32(o.v); return o.v })
	add("item []", func(o *operands, s *Scope) Array { s.ItemInt32(o.one); return o.one })
	add("item []", func(o *operands, s *Scope) Array {
		s.ItemFloat32(s.AsType(o.one, Int32))
		return o.one
	})
	add("item absent", func(o *operands, s *Scope) Array { s.ItemInt32(o.none); return o.i })
	add("read absent", func(o *operands, s *Scope) Array { s.Float32s(o.none, nil); return o.i })
	add("eval absent", func(o *operands, s *Scope) Array { return o.none })
	add("skip [4 8] x absent", func(o *operands, s *Scope) Array {
		_ = s.Skip(o.m, o.none)
		return Array{}
	})
	add("async_eval [4 8] x absent", func(o *operands, s *Scope) Array {
		s.AsyncEval(o.m, o.none)
		return o.m
	})
	add("mul [1073741824 1] x [1 1073741824]", func(o *operands, s *Scope) Array {
		return s.Mul(s.BroadcastTo(o.one, 1<<30, 1), s.BroadcastTo(o.one, 1, 1<<30))
	})
}
