package terminal

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func doctorCommand(c Commands, o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Examine the installation and say how to mend it",
		Long: `doctor says what is installed, on which device and with which matrix library
models run, what is missing, and the command that mends it. Its exit code is 1
where something is missing without which no model can run.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
			var missing bool
			for _, f := range c.Doctor(cmd.Context(), *o) {
				fmt.Fprintf(w, "%s\t%s\t%s\n", f.State, f.Name, f.Detail)
				if f.Mend != "" {
					fmt.Fprintf(w, "\t\tmend: %s\n", f.Mend)
				}
				missing = missing || f.State == Missing
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if missing {
				return &ExitError{Code: ExitFailed}
			}
			return nil
		},
	}
}
