package terminal

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Conversion says what the convert command makes of which model.
type Conversion struct {
	Model string // an id, or the path of a folder
	ID    string // of the new model; empty leaves it to what is done
	// Quantize and Dequantize pack the weights and unpack them; without either only
	// the type changes.
	Quantize, Dequantize bool
	Bits, GroupSize      int // 0 is the mode's default
	Mode, Recipe, Dtype  string
}

// Converted is the outcome of a conversion.
type Converted struct {
	Model
	Parameters int64
}

func convertCommand(c Commands, o *Options) *cobra.Command {
	var v Conversion
	cmd := &cobra.Command{
		Use:   "convert MODEL",
		Short: "Quantize a model, or undo it",
		Long: `convert writes an installed model, or the one in a folder, as a new model: packed
into fewer bits, unpacked, or with another type of number. mlx-lm loads the result.

By default the weights are packed into 4 bits in groups of 64. With --dtype and no
word of bits, groups, a mode or a recipe only the type changes. Mode affine packs
into 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128; mxfp4, mxfp8 and nvfp4 have
bits and groups of their own. The recipes mixed_2_6, mixed_3_4, mixed_3_6 and
mixed_4_6 give the layers that matter most more bits than the others.`,
		Example: `  harmonyd convert my/model                         # my/model as model-4bit
  harmonyd convert my/model --bits 8 --group-size 32 -o model-q8
  harmonyd convert ./folder --mode mxfp4
  harmonyd convert model-4bit --dequantize --dtype float16`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(fmt.Errorf("convert: got %d models, want one", len(args)))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			packs := false
			for _, name := range []string{"bits", "group-size", "mode", "recipe"} {
				packs = packs || cmd.Flags().Changed(name)
			}
			if packs && v.Dequantize {
				return usage(fmt.Errorf("--dequantize goes without --bits, --group-size, --mode and --recipe"))
			}
			v.Model, v.Quantize = args[0], packs || !v.Dequantize && v.Dtype == ""
			m, err := c.Models(*o)
			if err != nil {
				return err
			}
			ctx, stop := untilInterrupt(cmd.Context())
			defer stop()
			bar := newProgress(c.Err, c.ErrIsTerminal, "convert")
			got, err := m.Convert(ctx, v, bar.report)
			bar.done()
			if err != nil {
				return interrupted(ctx, err)
			}
			_, err = fmt.Fprintf(c.Out, "Converted %s to %s: %s, %.2f bits per weight. Try it: harmonyd generate -m %s \"Hello\"\n",
				v.Model, got.ID, bytesText(got.SizeBytes), 8*float64(got.SizeBytes)/float64(max(got.Parameters, 1)), got.ID)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&v.ID, "output", "o", "", "`id` of the new model; the default is the model's name with what was done")
	fl.IntVarP(&v.Bits, "bits", "b", 0, "bits of a packed weight (default 4; mxfp8: 8)")
	fl.IntVarP(&v.GroupSize, "group-size", "g", 0, "packed weights that share a scale (default 64; mxfp4, mxfp8: 32; nvfp4: 16)")
	fl.StringVar(&v.Mode, "mode", "", "way of packing: affine, mxfp4, mxfp8 or nvfp4 (default affine)")
	fl.StringVar(&v.Recipe, "recipe", "", "give some layers more bits: mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6")
	fl.BoolVarP(&v.Dequantize, "dequantize", "d", false, "unpack the weights")
	fl.StringVar(&v.Dtype, "dtype", "", "`type` of the weights that are not packed: float16, bfloat16 or float32 (default the model's)")
	return cmd
}
