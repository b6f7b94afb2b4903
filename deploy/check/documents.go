package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	shellWord  = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
	metricWord = regexp.MustCompile("`(headwater_[a-z_]+)(?:\\{[^`]*)?`")
	adminPage  = regexp.MustCompile(`127\.0\.0\.1:9644(/[a-z0-9/_-]*)`)
	named      = regexp.MustCompile(`(?m)^  ([a-z-]+)(?:  |$)`)
)

// checkDocument walks a Markdown file: each `headwater …` in a code block must be a command with
// such flags, each metric in backquotes one that a broker has, and each line of a log block in the
// sources.
func checkDocument(
	path string, binary *binary, page metricNames, sources string, found *findings,
) (int, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	commands, inside, log := 0, false, false
	for _, line := range strings.Split(strings.ReplaceAll(string(content), "\\\n", " "), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inside, log = !inside, strings.HasSuffix(strings.TrimSpace(line), "```log")
			continue
		}
		if line := strings.TrimSpace(line); log && !strings.Contains(sources, line) {
			found.add(path, "no source logs %q", line)
		}
		for _, match := range metricWord.FindAllStringSubmatch(line, -1) {
			page.checkName(path, match[1], found)
		}
		if !inside {
			continue
		}
		for _, words := range invocations(line) {
			commands++
			if err := binary.checkCommand(path, words, found); err != nil {
				return commands, err
			}
		}
	}
	return commands, nil
}

// invocations are the words after each `headwater` of a line, up to the end of that command.
func invocations(line string) [][]string {
	line, _, _ = strings.Cut(line, " # ")
	if strings.HasPrefix(strings.TrimSpace(line), "#") {
		return nil
	}
	var all [][]string
	var current []string
	inside := false
	flush := func() {
		if inside {
			all = append(all, current)
		}
		current, inside = nil, false
	}
	for _, word := range shellWord.FindAllString(line, -1) {
		switch {
		case word == "|" || word == "&&" || word == ";" || word == ">" || word == ")":
			flush()
		case word == "headwater" || strings.HasSuffix(word, "/headwater"):
			flush()
			inside = true
		case inside:
			current = append(current, word)
		}
	}
	flush()
	// A release, a namespace and an image are called so too; a command has a subcommand.
	var commands [][]string
	for _, words := range all {
		if len(words) > 0 && regexp.MustCompile(`^[a-z]+$`).MatchString(words[0]) {
			commands = append(commands, words)
		}
	}
	return commands
}

// checkCommand goes down the subcommands as far as the words do, then looks for the flags.
func (b *binary) checkCommand(path string, words []string, found *findings) error {
	shown := "headwater " + strings.Join(words, " ")
	var at []string
	for {
		help, err := b.helpOf(at)
		if err != nil {
			return err
		}
		subcommands := subcommandsOf(help)
		if len(subcommands) == 0 {
			checkFlags(path, shown, words[len(at):], help, found)
			return nil
		}
		if len(at) == len(words) || !subcommands[words[len(at)]] {
			found.add(path, "%s: headwater %s has no such command", shown, strings.Join(at, " "))
			return nil
		}
		at = append(at, words[len(at)])
	}
}

func subcommandsOf(help string) map[string]bool {
	_, rest, ok := strings.Cut(help, "\nCommands:\n")
	if !ok {
		return nil
	}
	part, _, _ := strings.Cut(rest, "\n\n")
	commands := map[string]bool{}
	for _, match := range named.FindAllStringSubmatch(part, -1) {
		commands[match[1]] = true
	}
	return commands
}

func checkFlags(path, shown string, words []string, help string, found *findings) {
	for _, word := range words {
		flag, _, _ := strings.Cut(word, "=")
		if strings.HasPrefix(flag, "--") && flag != "--" && !strings.Contains(help, flag) {
			found.add(path, "%s: no flag %s", shown, flag)
		}
	}
}

// readSources is every Rust file below these folders, one after the other.
func readSources(folders []string) (string, error) {
	var all strings.Builder
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".rs" {
				return err
			}
			content, err := os.ReadFile(path)
			all.Write(content)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return all.String(), nil
}

// adminPages are the paths that documents ask the admin listener for.
func adminPages(documents []string) ([]string, error) {
	var paths []string
	for _, document := range documents {
		content, err := os.ReadFile(document)
		if err != nil {
			return nil, err
		}
		for _, match := range adminPage.FindAllStringSubmatch(string(content), -1) {
			paths = append(paths, match[1])
		}
	}
	return paths, nil
}
