package terminal

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func modelsCommand(c Commands, o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "models",
		Short: "List the installed models",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := c.Models(*o)
			if err != nil {
				return err
			}
			list, err := m.List(cmd.Context())
			if err != nil {
				return err
			}
			if len(list) == 0 {
				_, err := fmt.Fprintf(c.Out, "No model is installed in %s.\nImport one: harmonyd import FILE.gguf\nOr fetch one: harmonyd pull mlx-community/NAME\n", m.Root())
				return err
			}
			w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "MODEL\tFAMILY\tWEIGHTS\tCONTEXT\tSIZE")
			for _, r := range list {
				if r.Problem != "" {
					fmt.Fprintf(w, "%s\tunusable: %s\n", r.ID, r.Problem)
					continue
				}
				weights := r.Quantization
				if weights == "" {
					weights = "plain"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", r.ID, r.Family, weights, r.ContextLength, bytesText(r.SizeBytes))
			}
			return w.Flush()
		},
	}
}

func importCommand(c Commands, o *Options) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Convert a GGUF file into an installed model",
		Long: `import reads a GGUF file once and writes a model folder from it: weights as
safetensors, the tokenizer and the chat template. The GGUF file is not needed
afterwards.

Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, F32, F16 and BF16 keep the value of every weight.
Q2_K, Q3_K, Q4_K, Q5_K and Q6_K, which files named Q4_K_M and the like are made
of, become 16 bits a weight, with an error far below that of the type.`,
		Example: "  harmonyd import SmolLM2-135M-Instruct.Q4_1.gguf\n  harmonyd import --id my/model FILE.gguf",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(fmt.Errorf("import: got %d files, want one", len(args)))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := c.Models(*o)
			if err != nil {
				return err
			}
			ctx, stop := untilInterrupt(cmd.Context())
			defer stop()
			bar := newProgress(c.Err, c.ErrIsTerminal, "import")
			got, err := m.Import(ctx, args[0], id, func(done, total int64, _ string) { bar.report(done, total) })
			bar.done()
			if err != nil {
				return interrupted(ctx, err)
			}
			_, err = fmt.Fprintf(c.Out, "Imported %s. Try it: harmonyd generate -m %s \"Hello\"\n", got, got)
			return err
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "`id` of the new model; the default is the file's name")
	return cmd
}

// untilInterrupt ends work at the first Ctrl-C, which leaves nothing half written;
// a second one does not wait.
func untilInterrupt(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func removeCommand(c Commands, o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "Delete an installed model",
		Long: `remove deletes the folder of an installed model; models lists the ids. A server
that has the model loaded keeps it until it ends.`,
		Example: "  harmonyd remove SmolLM2-135M-Instruct.Q4_1",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(fmt.Errorf("remove: got %d ids, want one", len(args)))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := c.Models(*o)
			if err != nil {
				return err
			}
			if err := m.Remove(args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.Out, "Removed %s.\n", args[0])
			return err
		},
	}
}
