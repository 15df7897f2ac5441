// Package profile turns prompt configs, profiles, saved chats and requests into the
// Settings of a conversation. It reads the files of mlx-harmony, whose keys it keeps, and
// says of every value where it came from. It must never act on a setting: whoever runs the
// conversation does. A key that nothing acts on is refused by name.
//
// A value is taken from the first of these that has it:
//
//	request        the command line, a member of a request, \set in a chat
//	saved chat     what was in force when the conversation was left
//	prompt config  a file of keys, see Config
//	profile        an entry of the profiles file: model, prompt config, context
//	model          what the model is made for
//	default
//
// Start with Config, then Resolve and Settings.
package profile
