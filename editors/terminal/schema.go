package terminal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"harmonyd/schema"
)

func schemaCommand(c Commands) *cobra.Command {
	format, out := schema.LanguageJSONSchema, ""
	cmd := &cobra.Command{
		Use:   "schema [prompt-config|profiles]",
		Short: "Print the protocol or a kind of file as a JSON Schema",
		Long: `schema prints one JSON Schema document, draft 2020-12, with the types of every
method, notification and error that this server speaks. With --format it prints
them as a TypeScript module or as a Lua module with LuaCATS annotations instead;
meta is a list of the methods and errors alone. Types for other languages and
validators can be made from the JSON Schema. With --out all of them, or the one
that --format names, become files of a folder.

With the name of a kind of file it prints what editors check and complete such a
file by; name its place in the file as "$schema".`,
		Example: `  harmonyd schema > harmonyd.schema.json
  harmonyd schema --format typescript > protocol.ts
  harmonyd schema --out protocol/                   # schema.json, meta.json, protocol.ts, protocol.lua
  harmonyd schema prompt-config > prompt-config.schema.json`,
		Args: arguments("kind of file", 0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && out != "":
				return usage(errors.New("--out: only the protocol is written to a folder"))
			case len(args) == 1:
				return configSchema(c, args[0], format)
			}
			if !slices.Contains(schema.Languages, format) {
				return usage(fmt.Errorf("--format: got %q, want one of %q", format, schema.Languages))
			}
			languages := []schema.Language{format}
			if out != "" && !cmd.Flags().Changed("format") {
				languages = schema.Languages
			}
			for _, l := range languages {
				if err := publish(c, l, out); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar((*string)(&format), "format", string(format), "json-schema, meta, typescript or lua")
	cmd.Flags().StringVar(&out, "out", "", "write files into this `folder` instead of printing")
	return cmd
}

// publish prints the protocol in a language, or writes it into a folder.
func publish(c Commands, l schema.Language, folder string) error {
	text, err := c.Schema(l)
	if err != nil {
		return err
	}
	if folder == "" {
		_, err = c.Out.Write(text)
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, l.File()), text, 0o644)
}

// ConfigFiles are the kinds of file that schema describes.
var ConfigFiles = []string{"prompt-config", "profiles"}

// configSchema prints what a kind of file is.
func configSchema(c Commands, file string, format schema.Language) error {
	if !slices.Contains(ConfigFiles, file) {
		return usage(fmt.Errorf("schema: got %q, want one of %q", file, ConfigFiles))
	}
	if format != schema.LanguageJSONSchema {
		return usage(fmt.Errorf("--format: got %q, want %s for a file", format, schema.LanguageJSONSchema))
	}
	text, err := c.ConfigSchema(file)
	if err != nil {
		return err
	}
	_, err = c.Out.Write(text)
	return err
}
