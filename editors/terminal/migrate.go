package terminal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// migrateChatFlags are the flags of migrate-chat.
type migrateChatFlags struct {
	inPlace bool
	output  string
}

func migrateChatCommand(c Commands, o *Options) *cobra.Command {
	var f migrateChatFlags
	cmd := &cobra.Command{
		Use:   "migrate-chat FILE",
		Short: "Take over a chat log of mlx-harmony",
		Long: `migrate-chat reads a chat log that mlx-harmony wrote, of its schema 1 or 2, and
keeps the chats in it as conversations, with all that was in the file. Sessions
shows them. The file stays as it is.

With --in-place or --output it writes the file in schema 2 instead, for
mlx-harmony itself. What is missing or inconsistent is put right and told.`,
		Example: `  harmonyd migrate-chat logs/my-chat.json
  harmonyd migrate-chat --output new.json old.json`,
		Args: arguments("file", 1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if f.inPlace && f.output != "" {
				return usage(errors.New("--in-place and --output: got both, want one of them"))
			}
			log, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("chat log: %w", err)
			}
			if f.inPlace || f.output != "" {
				return migrateFile(c, args[0], f, log)
			}
			s, err := c.Conversations(*o)
			if err != nil {
				return err
			}
			ids, report, err := s.ImportChat(log, strings.TrimSuffix(filepath.Base(args[0]), ".json"))
			if err != nil { // some of its chats may have been kept
				err = fmt.Errorf("%s: %w", args[0], err)
			}
			for _, line := range report {
				fmt.Fprintln(c.Err, printable(line))
			}
			for _, id := range ids {
				if _, err := fmt.Fprintf(c.Out, "Imported %s. Read it: harmonyd sessions show %s\n", id, id); err != nil {
					return err
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&f.inPlace, "in-place", false, "write the file itself in mlx-harmony's schema 2")
	cmd.Flags().StringVar(&f.output, "output", "", "write a `file` in mlx-harmony's schema 2")
	return cmd
}

// migrateFile writes a chat log in mlx-harmony's newest schema.
func migrateFile(c Commands, file string, f migrateChatFlags, log []byte) error {
	migrated, report, err := c.MigrateChat(log)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, line := range report {
		fmt.Fprintln(c.Err, printable(line))
	}
	if f.inPlace && bytes.Equal(migrated, log) {
		_, err := fmt.Fprintf(c.Out, "%s is as it should be.\n", file)
		return err
	}
	to := cmp.Or(f.output, file)
	if err := replaceFile(to, migrated); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.Out, "Wrote %s.\n", to)
	return err
}

func convertDialogueCommand(c Commands) *cobra.Command {
	var stdout, asExamples bool
	cmd := &cobra.Command{
		Use:   "convert-dialogue INPUT [OUTPUT]",
		Short: "Turn a written dialogue into JSON for a prompt config",
		Long: `convert-dialogue reads a text in which a line that begins with user:, assistant:
or tool: begins a message, and writes the messages as a JSON list to OUTPUT or to
standard output. INPUT may be "-" for standard input.`,
		Example: `  harmonyd convert-dialogue dialogue.txt messages.json
  harmonyd convert-dialogue --as-example-dialogues - < dialogue.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usage(fmt.Errorf("convert-dialogue: got %d files, want the input and perhaps the output", len(args)))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			var text []byte
			var err error
			if args[0] == "-" {
				text, err = io.ReadAll(c.In)
			} else {
				text, err = os.ReadFile(args[0])
			}
			if err != nil {
				return fmt.Errorf("dialogue: %w", err)
			}
			out, err := c.Dialogue(string(text), asExamples)
			if err != nil {
				return fmt.Errorf("dialogue %s: %w", args[0], err)
			}
			if len(args) == 1 || stdout {
				_, err = c.Out.Write(out)
				return err
			}
			return replaceFile(args[1], out)
		},
	}
	cmd.Flags().BoolVar(&stdout, "stdout", false, "write to standard output, also where OUTPUT is given")
	cmd.Flags().BoolVar(&asExamples, "as-example-dialogues", false, "write the value of example_dialogues, with this one dialogue")
	return cmd
}

// replaceFile writes a file that is there whole or as it was before, with the permissions
// that it had.
func replaceFile(name string, text []byte) error {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real // a link stays one
	}
	mode := os.FileMode(0o644)
	st, err := os.Stat(name)
	if err == nil {
		if !st.Mode().IsRegular() { // such as /dev/stdout
			return os.WriteFile(name, text, mode)
		}
		mode = st.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
