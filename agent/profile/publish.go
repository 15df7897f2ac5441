package profile

import (
	"embed"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"harmonyd/schema"
)

//go:embed config.go profiles.go
var sources embed.FS

// The files that JSONSchema describes.
const (
	PromptConfigFile = "prompt-config"
	ProfilesFile     = "profiles"
)

// JSONSchema describes a kind of file for editors, as a JSON Schema document.
func JSONSchema(file string) ([]byte, error) {
	switch file {
	case PromptConfigFile:
		return schema.PublishFile(schema.File{
			Title: "harmonyd prompt config", Description: "What a person wants of the conversations with a model. Every key may be left out.",
			Type: reflect.TypeFor[Config](), Sources: sources, More: describe,
		})
	case ProfilesFile:
		return schema.PublishFile(schema.File{
			Title: "harmonyd profiles", Description: "Choices of a model and how to talk to it, by name.",
			Type: reflect.TypeFor[Profile](), Named: true, Sources: sources,
		})
	}
	return nil, fmt.Errorf("file %q: want %s or %s", file, PromptConfigFile, ProfilesFile)
}

// describe is what the schema says of a key beyond its type and its comment.
func describe(name string) map[string]any {
	k, _ := keyNamed(name)
	more := map[string]any{}
	if k.Refused != "" {
		more["deprecated"] = true
		more["description"] = "Has no effect: " + k.Refused + "."
		return more
	}
	more["x-default"], more["x-when"] = k.Default, k.When
	var v any
	if json.Unmarshal([]byte(k.Default), &v) == nil {
		more["default"] = v
	} else if k.typ.Kind() == reflect.String && !strings.ContainsRune(k.Default, ' ') && k.Default != "none" {
		more["default"] = k.Default
	}
	switch name {
	case "reasoning_effort": // as mlx-harmony's files write them
		more["enum"] = []any{"low", "medium", "high", "Low", "Medium", "High"}
	case "placeholders":
		more["type"], more["additionalProperties"] = "object", map[string]any{"type": []string{"string", "number", "boolean"}}
	}
	return more
}
