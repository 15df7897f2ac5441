package terminal

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Pull says what the pull command fetches, and who wants to know.
type Pull struct {
	Repo, Revision, ID string
	// Planned is called when it is known what will be fetched.
	Planned func(PullPlan)
	// Warn is called before the weights are fetched where they will be of no use.
	Warn func(problem string)
	// Progress is called from other goroutines, one call at a time, with what
	// there is of a file, and with the sums under the empty name.
	Progress func(file string, done, total int64)
}

// PullPlan is what a pull is about to do.
type PullPlan struct {
	ID, Commit  string
	Files       int
	Bytes, Have int64 // of all files; and what an earlier pull has fetched of them
}

// Pulled is the outcome of a pull.
type Pulled struct {
	Model
	Commit string
	// Before is true where the model had been pulled at this commit already.
	Before bool
}

func pullCommand(c Commands, o *Options) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "pull REPO[@REVISION]",
		Short: "Fetch a model in MLX format from a hub",
		Long: `pull fetches a model, such as those of mlx-community, from huggingface.co or from
the hub that HF_ENDPOINT names, checks every byte, and installs it. A pull that was
interrupted goes on where it ended. Private and gated models need a token: in
HF_TOKEN, in the file that HF_TOKEN_PATH names, or where "hf auth login" keeps it.`,
		Example: "  harmonyd pull mlx-community/SmolLM2-135M-Instruct-4bit\n  harmonyd pull --id smol mlx-community/SmolLM2-135M-Instruct-4bit@main",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(fmt.Errorf("pull: got %d repositories, want one", len(args)))
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
			bar := newProgress(c.Err, c.ErrIsTerminal, "pull")
			p := Pull{ID: id, Progress: bar.reportFile, Planned: func(p PullPlan) {
				fmt.Fprintf(c.Err, "Pulling %s at commit %.12s: %d files, %s", p.ID, p.Commit, p.Files, bytesText(p.Bytes))
				if p.Have > 0 {
					fmt.Fprintf(c.Err, ", of which %s are here", bytesText(p.Have))
				}
				fmt.Fprintln(c.Err)
			}}
			warned := ""
			p.Warn = func(problem string) {
				warned = problem
				fmt.Fprintf(c.Err, "warning: this model cannot be used as it is: %s\n", problem)
			}
			p.Repo, p.Revision, _ = strings.Cut(args[0], "@")
			got, err := m.Pull(ctx, p)
			bar.done()
			if err != nil {
				return interrupted(ctx, err)
			}
			return c.printPulled(got, warned)
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "`id` of the new model; the default is the repository's name")
	return cmd
}

func (c Commands) printPulled(p Pulled, warned string) error {
	if p.Problem != "" && p.Problem != warned {
		fmt.Fprintf(c.Err, "warning: %s cannot be used as it is: %s\n", p.ID, p.Problem)
	}
	verb := "Pulled"
	if p.Before {
		verb = "Up to date:"
	}
	hint := ""
	if p.Problem == "" && !p.Before {
		hint = fmt.Sprintf(" Try it: harmonyd generate -m %s \"Hello\"", p.ID)
	}
	_, err := fmt.Fprintf(c.Out, "%s %s at commit %.12s.%s\n", verb, p.ID, p.Commit, hint)
	return err
}
