// Package terminal holds the commands that a person types: generate, models,
// import, pull, convert, remove, sessions, migrate-chat, convert-dialogue,
// bench, doctor, schema and version. It builds the command tree and its help,
// shows progress, and prints for people. It must never run a model itself or end the
// process: what a command needs is handed in as Commands, and what went wrong
// comes back as an error that carries its exit code.
//
// Start with New.
package terminal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"harmonyd/agent"
	"harmonyd/schema"
)

// Exit codes of the program beyond 0.
const (
	ExitFailed = 1 // the command ran and failed
	ExitUsage  = 2 // the command line makes no sense
)

// ExitError carries the exit code of a failed command. An Err of nil means
// that everything has been said already.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode maps what Execute returned to the exit code of the process.
func ExitCode(err error) int {
	var exit *ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	}
	return ExitFailed
}

// Commands is everything the commands need from the rest of the program.
type Commands struct {
	Version string
	// In is standard input. Out receives what a command prints, Err its
	// diagnostics and progress.
	In       io.Reader
	Out, Err io.Writer
	// ErrIsTerminal says that Err is a terminal and may show progress bars.
	ErrIsTerminal bool
	// Serve runs the stdio server until the client is gone.
	Serve func(ctx context.Context, o Options, s ServeOptions) error
	// Agent opens an agent; close ends it and its engine.
	Agent func(ctx context.Context, o Options) (a Agent, close func(), err error)
	// Chat opens an agent for a chat, whose log goes to log.
	Chat func(ctx context.Context, o Options, log io.Writer) (a ChatAgent, close func(), err error)
	// State is the folder of what is remembered between runs.
	State func(o Options) string
	// Folders are those that a prompt config names.
	Folders func(o Options, p schema.SessionNewParams) (Folders, error)
	// Models opens the models folder.
	Models func(o Options) (Models, error)
	// Bench opens the harness that measures the engine.
	Bench func(o Options) (Bench, error)
	// Conversations opens the folder of conversations.
	Conversations func(o Options) (Conversations, error)
	// MigrateChat puts an mlx-harmony chat log into that program's newest schema, and says
	// what it put right.
	MigrateChat func(log []byte) (migrated []byte, report []string, err error)
	// Dialogue turns a written dialogue into JSON.
	Dialogue func(text string, asExamples bool) ([]byte, error)
	// ConfigSchema is the JSON Schema of one of ConfigFiles, with a line end.
	ConfigSchema func(file string) ([]byte, error)
	// Doctor examines the installation.
	Doctor func(ctx context.Context, o Options) []Finding
	// Schema is the protocol in a language, with a line end.
	Schema func(l schema.Language) ([]byte, error)
}

// Options are the flags that all commands share.
type Options struct {
	// ModelsRoot is the folder of the models; empty means the platform's.
	ModelsRoot string
	// Model is the model that a request gets which names none; empty leaves the
	// choice to the engine.
	Model string
	// StateRoot is the folder of what the program remembers; empty means the
	// platform's.
	StateRoot string
	// ConversationsRoot is the folder of the conversations; empty means the platform's.
	ConversationsRoot string
	// ConfigRoot is the folder of prompt configs and profiles; empty means the platform's.
	ConfigRoot string
	// Folders are those of a prompt config, as far as it names them.
	Folders Folders
	// LogFile is where the server's log goes; empty means standard error. It and one
	// predecessor are kept.
	LogFile string
	// Limits bounds what clients of the server may send.
	Limits schema.Limits

	level  slog.Level
	format string // of the log, text or json
}

// Folders are those of files; empty means that nothing is said.
type Folders struct{ Logs, Chats, Models string }

// ServeOptions are the flags of the server.
type ServeOptions struct {
	// ClientProcessID is the editor's process; when it ends, so does the server.
	ClientProcessID int
	// WriteStall ends a connection whose client has not read for this many
	// seconds; 0 means never.
	WriteStallSeconds int
}

// check refuses numbers that mean nothing.
func (s ServeOptions) check() error {
	for _, f := range []struct {
		flag  string
		value int
	}{{"clientProcessId", s.ClientProcessID}, {"write-stall", s.WriteStallSeconds}} {
		if f.value < 0 || f.value > math.MaxInt32 {
			return fmt.Errorf("--%s: got %d, want 0 to %d", f.flag, f.value, math.MaxInt32)
		}
	}
	return nil
}

// Agent is what the generate command needs of an agent.
type Agent interface {
	Generate(ctx context.Context, p schema.GenerateParams, s agent.Sink, h agent.Host) (schema.GenerateResult, error)
	LoadModel(ctx context.Context, p schema.ModelLoadParams, report func(done, total int64)) (schema.ModelLoadResult, error)
	NewSession(ctx context.Context, p schema.SessionNewParams) (schema.SessionResult, error)
}

// Models is what the model commands need of the models folder.
type Models interface {
	Root() string
	List(ctx context.Context) ([]Model, error)
	// Import converts a GGUF file into a model folder and returns its id.
	Import(ctx context.Context, file, id string, progress func(done, total int64, what string)) (string, error)
	// Pull fetches a model from a hub.
	Pull(ctx context.Context, p Pull) (Pulled, error)
	// Convert writes a model as another one.
	Convert(ctx context.Context, v Conversion, progress func(done, total int64)) (Converted, error)
	// Remove deletes an installed model.
	Remove(id string) error
}

// Model is a row of the models command.
type Model struct {
	ID, Family, Quantization string
	ContextLength            int
	SizeBytes                int64
	// Problem says why the model cannot be used; empty means that it can.
	Problem string
}

// Finding is one line of the doctor's report.
type Finding struct {
	Name   string
	State  State
	Detail string
	// Mend is the command that puts it right, where there is one.
	Mend string
}

// State grades a Finding.
type State string

// The grades.
const (
	OK      State = "ok"
	Warning State = "warn"
	Missing State = "missing"
)

// New returns the command tree.
func New(c Commands) *cobra.Command {
	o := Options{Limits: schema.DefaultLimits()}
	var s ServeOptions
	var stdio bool
	root := &cobra.Command{
		Use:   "harmonyd",
		Short: "A language server for local language models",
		Long: `harmonyd runs a language model on this machine and serves it to an editor.

Without a command it is the server: an editor starts it as a subprocess and
speaks JSON-RPC 2.0 on its stdin and stdout, framed as in the Language Server
Protocol or one message a line. The other commands are for a person.`,
		Example: `  harmonyd import SmolLM2-135M-Instruct.Q4_1.gguf   # install a model
  harmonyd generate "Why is the sky blue?"          # try it
  harmonyd doctor                                   # what is missing, and how to mend it
  printf '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\n' | harmonyd`,
		Args: noArguments,
		PersistentPreRun: func(*cobra.Command, []string) {
			o.Model = cmp.Or(o.Model, os.Getenv("HARMONYD_MODEL"))
			o.StateRoot = cmp.Or(o.StateRoot, os.Getenv("HARMONYD_STATE"))
			o.ConversationsRoot = cmp.Or(o.ConversationsRoot, os.Getenv("HARMONYD_CONVERSATIONS"))
			o.ConfigRoot = cmp.Or(o.ConfigRoot, os.Getenv("HARMONYD_CONFIG"), os.Getenv("MLX_HARMONY_CONFIG_DIR"))
		},
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Version:                    c.Version,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !stdio {
				return usage(errors.New("--stdio=false: there is no other way to serve"))
			}
			if err := s.check(); err != nil {
				return usage(err)
			}
			return c.Serve(cmd.Context(), o, s)
		},
	}
	root.SetOut(c.Out)
	root.SetErr(c.Err)
	root.SetVersionTemplate("harmonyd {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })

	all := root.PersistentFlags()
	all.StringVar(&o.ModelsRoot, "models", "", "`folder` of the models (environment HARMONYD_MODELS)")
	all.StringVar(&o.LogFile, "log-file", "", "append the server's log to `file` instead of writing it to stderr; at 16 MiB it becomes file.1 and a new one begins")
	o.level = slog.LevelWarn
	all.Var(levelFlag{&o.level}, "log-level", "least `level` to log: debug, info, warn or error")
	o.format = "text"
	all.Var(formatFlag{&o.format}, "log-format", "`form` of the log: text or json")
	all.StringVar(&o.StateRoot, "state", "", "`folder` of what is remembered between runs (environment HARMONYD_STATE)")
	all.StringVar(&o.ConversationsRoot, "conversations", "", "`folder` of the conversations (environment HARMONYD_CONVERSATIONS)")
	all.StringVar(&o.ConfigRoot, "config", "", "`folder` of prompt configs and profiles (environment HARMONYD_CONFIG, else MLX_HARMONY_CONFIG_DIR)")
	all.StringVarP(&o.Model, "model", "m", "", "`id` of the model for requests that name none (environment HARMONYD_MODEL)")

	own := root.Flags()
	own.BoolVar(&stdio, "stdio", true, "serve on stdin and stdout; the default, accepted for editors that pass it")
	own.IntVar(&s.ClientProcessID, "clientProcessId", 0, "end when the process with this `pid` ends")
	own.Var(limitFlag{&o.Limits}, "limit", "set a limit that initialize tells, such as maxInFlight=64; `NAME=NUMBER`, again for each")
	own.IntVar(&s.WriteStallSeconds, "write-stall", 0, "give up on a client that has not read for this many `seconds`; 0 never does")

	root.AddCommand(chatCommand(c, &o), generateCommand(c, &o), modelsCommand(c, &o), importCommand(c, &o), pullCommand(c, &o), convertCommand(c, &o), removeCommand(c, &o),
		sessionsCommand(c, &o), migrateChatCommand(c, &o), convertDialogueCommand(c),
		benchCommand(c, &o), doctorCommand(c, &o), schemaCommand(c), versionCommand(c))
	return root
}

// noArguments refuses stray words with a hint, since a mistyped command would
// otherwise start a server that waits for ever.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasParent() {
		return usage(fmt.Errorf("%s: takes no arguments, got %q", cmd.Name(), args[0]))
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %q?", near[0])
	}
	return usage(fmt.Errorf("unknown command %q%s (harmonyd --help lists them)", args[0], hint))
}

func usage(err error) error { return &ExitError{Code: ExitUsage, Err: err} }

func versionCommand(c Commands) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(c.Out, "harmonyd %s\n", c.Version)
			return err
		},
	}
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// terminalOf is the terminal that a reader or writer is, if it is one.
func terminalOf(end any) (f *os.File, is bool) {
	f, is = end.(*os.File)
	return f, is && IsTerminal(f)
}
