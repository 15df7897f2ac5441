package main

import (
	"cmp"
	"context"
	"io"
	"path/filepath"

	"github.com/adrg/xdg"

	"harmonyd/agent"
	"harmonyd/agent/conversation"
	"harmonyd/editors/terminal"
	"harmonyd/schema"
)

// conversations gives the folder of conversations the types that the terminal declares.
type conversations struct{ *conversation.Store }

// openStore opens the folder of conversations.
func openStore(o terminal.Options) (*conversation.Store, error) {
	return conversation.OpenStore(cmp.Or(o.ConversationsRoot, filepath.Join(xdg.DataHome, "harmonyd", "conversations")))
}

// configFolders are where prompt configs and profiles are looked for.
func configFolders(o terminal.Options) []string {
	return []string{cmp.Or(o.ConfigRoot, filepath.Join(xdg.ConfigHome, "harmonyd"))}
}

// configuredFolders are those that a prompt config names.
func configuredFolders(o terminal.Options, p schema.SessionNewParams) (terminal.Folders, error) {
	f, err := agent.Folders(p, configFolders(o))
	return terminal.Folders(f), err
}

func openConversations(o terminal.Options) (terminal.Conversations, error) {
	s, err := openStore(o)
	if err != nil {
		return nil, err
	}
	return conversations{s}, nil
}

func (c conversations) List(ctx context.Context) ([]terminal.Conversation, error) {
	list, err := c.Store.List(ctx)
	rows := make([]terminal.Conversation, len(list))
	for i, s := range list {
		rows[i] = terminal.Conversation{ID: s.ID, Title: s.Title, Updated: s.Updated, Messages: s.Messages, Problem: s.Problem}
	}
	return rows, err
}

func (c conversations) Search(ctx context.Context, query string, limit int) ([]terminal.Hit, error) {
	found, err := c.Store.Search(ctx, query, limit)
	hits := make([]terminal.Hit, len(found))
	for i, h := range found {
		hits[i] = terminal.Hit{Conversation: h.Conversation, Role: string(h.Role), Snippet: h.Snippet}
	}
	return hits, err
}

func (c conversations) Export(w io.Writer, id string, f terminal.ExportFormat) (problem string, err error) {
	one, err := c.Load(id)
	if err != nil {
		return "", err
	}
	defer one.Close()
	if d := one.Damage(); d != nil {
		problem = d.String()
	}
	if f == terminal.ExportJSON {
		return problem, one.ExportJSON(w)
	}
	return problem, one.ExportMarkdown(w, "")
}

func (c conversations) ImportChat(log []byte, title string) (ids, report []string, err error) {
	chats, err := conversation.ReadChatLog(log)
	if err != nil {
		return nil, nil, err
	}
	for _, chat := range chats.Conversations(title) {
		id, err := c.Import(chat)
		if err != nil {
			return ids, chats.Report.Lines(), err
		}
		ids = append(ids, id)
	}
	return ids, chats.Report.Lines(), nil
}

// migrateChat puts an mlx-harmony chat log into that program's newest schema.
func migrateChat(log []byte) (migrated []byte, report []string, err error) {
	chats, err := conversation.ReadChatLog(log)
	if err != nil {
		return nil, nil, err
	}
	return chats.JSON(), chats.Report.Lines(), nil
}
