package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// binary is the built `headwater`.
type binary struct {
	path string
	help map[string]string
}

// config asks what a node with this file and environment makes of them.
func (b *binary) config(file string, environment map[string]string) (map[string]string, error) {
	command := exec.Command(b.path, "config", "--output", "json", "--config", file)
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range environment {
		command.Env = append(command.Env, name+"="+value)
	}
	output, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		told := strings.ReplaceAll(string(exit.Stderr), file, filepath.Base(file))
		return nil, errors.New(strings.TrimSpace(told))
	} else if err != nil {
		return nil, err
	}
	var rows []struct{ Name, Value string }
	if err := json.Unmarshal(output, &rows); err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, row := range rows {
		settings[row.Name] = row.Value
	}
	return settings, nil
}

// helpOf is what `headwater WORDS --help` prints.
func (b *binary) helpOf(words []string) (string, error) {
	key := strings.Join(words, " ")
	if known, ok := b.help[key]; ok {
		return known, nil
	}
	output, err := exec.Command(b.path, append(append([]string{}, words...), "--help")...).Output()
	if err != nil {
		return "", fmt.Errorf("headwater %s --help: %w", key, err)
	}
	if b.help == nil {
		b.help = map[string]string{}
	}
	b.help[key] = string(output)
	return string(output), nil
}

var adminLine = regexp.MustCompile(`^Admin listens on (http://127\.0\.0\.1:\d+)$`)

// metrics starts a broker in a folder of its own, reads its page and asks for each of these paths,
// and stops it.
func (b *binary) metrics(paths []string) (page metricNames, err error) {
	folder, err := os.MkdirTemp("", "headwater-check-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	command := exec.Command(b.path, "serve", "--data-dir", folder, "--log", "error",
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	// One that hangs must not hold up the check for ever.
	stop := time.AfterFunc(time.Minute, func() { _ = command.Process.Kill() })
	defer stop.Stop()
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if match := adminLine.FindStringSubmatch(lines.Text()); match != nil {
			page, err = readMetrics(match[1] + "/metrics")
			for _, path := range paths {
				err = errors.Join(err, answers(match[1]+path))
			}
			break
		}
	}
	_ = command.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, output)
	if ended := command.Wait(); ended != nil && err == nil {
		err = fmt.Errorf("headwater serve: %w", ended)
	}
	if err == nil && len(page) == 0 {
		err = errors.New("headwater serve told no metrics")
	}
	return page, err
}

func answers(url string) error {
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}

func readMetrics(url string) (metricNames, error) {
	answer, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	names := metricNames{}
	lines := bufio.NewScanner(io.LimitReader(answer.Body, 64<<20))
	for lines.Scan() {
		line := lines.Text()
		if end := strings.IndexAny(line, "{ "); end > 0 && line[0] != '#' {
			names[line[:end]] = true
		}
	}
	return names, lines.Err()
}

// metricNames are the series that a live broker shows.
type metricNames map[string]bool
