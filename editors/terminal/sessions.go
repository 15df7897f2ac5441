package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// Conversations is what the commands on kept conversations need of their folder.
type Conversations interface {
	Dir() string
	// List lists them, those that changed last first.
	List(ctx context.Context) ([]Conversation, error)
	// Search finds the messages in which all words of query occur, limit at most.
	Search(ctx context.Context, query string, limit int) ([]Hit, error)
	// Resolve returns the only id that begins with prefix.
	Resolve(prefix string) (id string, err error)
	// Export writes a conversation. The problem says what of it cannot be read.
	Export(w io.Writer, id string, f ExportFormat) (problem string, err error)
	Delete(id string) error
	// ImportChat stores the chats of an mlx-harmony chat log, named title.
	ImportChat(log []byte, title string) (ids, report []string, err error)
}

// Conversation is a row of sessions list.
type Conversation struct {
	ID, Title string
	Updated   time.Time
	Messages  int
	// Problem says why it cannot be read whole; empty means that it can.
	Problem string
}

// Hit is a message that sessions search found.
type Hit struct{ Conversation, Role, Snippet string }

// ExportFormat is a form of an exported conversation.
type ExportFormat string

// The formats.
const (
	ExportMarkdown ExportFormat = "markdown"
	ExportJSON     ExportFormat = "json"
)

func sessionsCommand(c Commands, o *Options) *cobra.Command {
	list := sessionsListCommand(c, o)
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List, read, search, export and delete kept conversations",
		Long: `sessions is about the conversations that are kept on this machine. Without a
command it lists them. Where a command takes an ID, the beginning of one will do.`,
		Example: `  harmonyd sessions
  harmonyd sessions search "sliding window"
  harmonyd sessions show 20260102-0304
  harmonyd sessions export 20260102-0304 --format json -o chat.json`,
		Args: noArguments,
		RunE: list.RunE,
	}
	cmd.AddCommand(list, sessionsShowCommand(c, o), sessionsSearchCommand(c, o), sessionsExportCommand(c, o), sessionsDeleteCommand(c, o))
	return cmd
}

// arguments demands between least and most arguments; most 0 is no bound.
func arguments(what string, least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage(fmt.Errorf("%s: got no %s, want one", cmd.Name(), what))
		case most > 0 && len(args) > most:
			return usage(fmt.Errorf("%s: got %d arguments, want one %s", cmd.Name(), len(args), what))
		}
		return nil
	}
}

func sessionsListCommand(c Commands, o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the conversations, the newest first",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.Conversations(*o)
			if err != nil {
				return err
			}
			ctx, stop := untilInterrupt(cmd.Context())
			defer stop()
			list, err := s.List(ctx)
			if err != nil {
				return interrupted(ctx, err)
			}
			if len(list) == 0 {
				_, err := fmt.Fprintf(c.Out, "No conversation is kept in %s.\n", s.Dir())
				return err
			}
			w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tCHANGED\tMESSAGES\tTITLE")
			for _, r := range list {
				title := printable(r.Title)
				if r.Problem != "" {
					title = strings.TrimSpace(title + " (" + printable(r.Problem) + ")")
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", r.ID, r.Updated.Local().Format("2006-01-02 15:04"), r.Messages, title)
			}
			return w.Flush()
		},
	}
}

func sessionsShowCommand(c Commands, o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Print a conversation for reading",
		Args:  arguments("ID", 1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := exported(c, *o, args[0], ExportMarkdown)
			if err != nil {
				return err
			}
			// What models and tools wrote must not steer the terminal.
			_, err = io.WriteString(c.Out, printable(string(text)))
			return err
		},
	}
}

// exported is a conversation, and warns where it is not whole.
func exported(c Commands, o Options, prefix string, f ExportFormat) ([]byte, error) {
	s, err := c.Conversations(o)
	if err != nil {
		return nil, err
	}
	id, err := s.Resolve(prefix)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	problem, err := s.Export(&b, id, f)
	if err != nil {
		return nil, err
	}
	if problem != "" {
		fmt.Fprintf(c.Err, "harmonyd: conversation %s: %s\n", id, problem)
	}
	return b.Bytes(), nil
}

func sessionsExportCommand(c Commands, o *Options) *cobra.Command {
	format, file := ExportMarkdown, ""
	cmd := &cobra.Command{
		Use:   "export ID",
		Short: "Write a conversation as Markdown or JSON",
		Long: `export writes a conversation. Markdown has the messages from the first to the
last one; JSON has everything that is kept, also questions that were asked anew.`,
		Args: arguments("ID", 1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if format != ExportMarkdown && format != ExportJSON {
				return usage(fmt.Errorf("--format: got %q, want %s or %s", format, ExportMarkdown, ExportJSON))
			}
			text, err := exported(c, *o, args[0], format)
			if err != nil {
				return err
			}
			if file == "" {
				_, err = c.Out.Write(text)
				return err
			}
			return replaceFile(file, text)
		},
	}
	cmd.Flags().StringVar((*string)(&format), "format", string(format), "markdown or json")
	cmd.Flags().StringVarP(&file, "output", "o", "", "write to `file` instead of standard output")
	return cmd
}

func sessionsSearchCommand(c Commands, o *Options) *cobra.Command {
	limit := 50
	cmd := &cobra.Command{
		Use:   "search WORDS",
		Short: "Find the messages in which all words occur",
		Args:  arguments("word", 1, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return usage(fmt.Errorf("--limit: got %d, want 0 or more", limit))
			}
			s, err := c.Conversations(*o)
			if err != nil {
				return err
			}
			ctx, stop := untilInterrupt(cmd.Context())
			defer stop()
			hits, err := s.Search(ctx, strings.Join(args, " "), limit)
			if err != nil {
				return interrupted(ctx, err)
			}
			for _, h := range hits {
				fmt.Fprintf(c.Out, "%s  %s: %s\n", h.Conversation, h.Role, printable(h.Snippet))
			}
			if len(hits) == 0 {
				return errors.New("no message has all of these words")
			}
			if len(hits) == limit {
				fmt.Fprintf(c.Err, "These are the first %d; --limit 0 shows all.\n", limit)
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", limit, "most messages to show; 0 is all")
	return cmd
}

func sessionsDeleteCommand(c Commands, o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete conversations for good",
		Args:  arguments("ID", 1, 0),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := c.Conversations(*o)
			if err != nil {
				return err
			}
			ids := make([]string, len(args))
			for i, prefix := range args { // all of them first: a slip deletes nothing
				if ids[i], err = s.Resolve(prefix); err != nil {
					return err
				}
			}
			for _, id := range ids {
				if err := s.Delete(id); err != nil {
					return err
				}
				if _, err := fmt.Fprintf(c.Out, "Deleted %s.\n", id); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// printable is text without what could steer a terminal: control characters but for line
// ends and tabs, and those that turn the direction of writing.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
