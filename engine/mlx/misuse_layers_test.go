package mlx

// addLayers adds wrong calls of the layers that have kernels of their own for a CPU:
// what those cannot compute with they leave to MLX, which must refuse it.
func addLayers(add adder) {
	linear := func(o *operands, x, w, sc, b, bias Array, group, bits int, mode Mode) Array {
		return o.s.Linear(x, w, sc, b, bias, group, bits, mode)
	}
	add("linear [4 8] x [32 8] x absent x absent x [16 8]", func(o *operands, s *Scope) Array {
		return linear(o, o.m, o.w, o.none, o.none, o.n, 0, 0, Affine)
	})
	add("linear [1 64] x [16 8] x absent x absent x absent", func(o *operands, s *Scope) Array {
		return linear(o, o.x, o.n, o.none, o.none, o.none, 0, 0, Affine)
	})
	add("linear [4 8] x [8] x absent x absent x absent", func(o *operands, s *Scope) Array {
		return linear(o, o.m, o.v, o.none, o.none, o.none, 0, 0, Affine)
	})
	add("linear absent x [16 8] x absent x absent x absent", func(o *operands, s *Scope) Array {
		return linear(o, o.none, o.n, o.none, o.none, o.none, 0, 0, Affine)
	})
	add("linear [1 64] x [32 8] x [32 2] x [32 2] x [4 8]", func(o *operands, s *Scope) Array {
		return linear(o, o.x, o.w, o.sc, o.sc, o.m, 32, 4, Affine)
	})
	add("linear [1 64] x [32 8] x [32 2] x absent x absent", func(o *operands, s *Scope) Array {
		return linear(o, o.x, o.w, o.sc, o.none, o.none, 32, 4, Affine)
	})
	add("linear [1 64] x [32 8] x [32 2] x [32 2] x absent", func(o *operands, s *Scope) Array {
		return linear(o, o.x, o.w, o.sc, o.sc, o.none, 64, 4, Affine)
	})
	embed := func(o *operands, ids, w, sc, b Array, bits int, d Dtype) Array {
		return o.s.Embed(ids, w, sc, b, 32, bits, Affine, d)
	}
	add("embed [4 8] x [16 8] x absent x absent", func(o *operands, s *Scope) Array {
		return embed(o, o.m, o.n, o.none, o.none, 0, Float32)
	})
	add("embed [3] x [8] x absent x absent", func(o *operands, s *Scope) Array {
		return embed(o, o.i, o.v, o.none, o.none, 0, Float32)
	})
	add("embed [3] x [16 8] x absent x absent", func(o *operands, s *Scope) Array {
		return embed(o, o.i, o.n, o.none, o.none, 0, Int8)
	})
	add("embed [3] x [32 8] x [32 2] x absent", func(o *operands, s *Scope) Array {
		return embed(o, o.i, o.w, o.sc, o.none, 4, Float32)
	})
	add("split_heads [4 8]", func(o *operands, s *Scope) Array { return s.SplitHeads(o.m, 2) })
	add("split_heads [3 8 2]", func(o *operands, s *Scope) Array { return s.SplitHeads(o.experts, 3) })
	add("merge_heads [3 8 2]", func(o *operands, s *Scope) Array { return s.MergeHeads(o.experts) })
	write := func(o *operands, buffer, rows Array, at int) Array {
		var v Var
		defer v.Free()
		v.Set(buffer)
		return o.s.WriteRows(&v, rows, at)
	}
	add("write_rows [4 8] x [1 2 5 8]", func(o *operands, s *Scope) Array { return write(o, o.m, o.k, 0) })
	add("write_rows [1 2 5 8] x [1 2 5 8]", func(o *operands, s *Scope) Array { return write(o, o.k, o.k, 1) })
	add("write_rows [1 4 3 8] x [1 2 5 8]", func(o *operands, s *Scope) Array { return write(o, o.q, o.k, 0) })
	add("write_rows [1 2 5 8] x [1 2 5 8]", func(o *operands, s *Scope) Array {
		return write(o, o.k, s.AsType(o.k, Float16), 0)
	})
	add("swiglu [4 8] x [16 8]", func(o *operands, s *Scope) Array { return s.SwiGLU(o.m, o.n) })
}
