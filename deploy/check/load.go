package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sort"
	"strings"
	"sync"
	"time"
)

// A load is one producer that goes on while pods come and go. Each line is acknowledged before the
// next is sent, or the producer fails: at the end all of them must be there, once.
type load struct {
	topic   string
	command *exec.Cmd
	input   io.WriteCloser
	errors  bytes.Buffer
	stop    chan struct{}
	pump    sync.WaitGroup
	sent    int
	broken  error
}

// between is the pause between two lines: a steady load, and a short topic to read back.
const between = 20 * time.Millisecond

// startLoad makes a topic and begins to write to it.
func (r *rehearsal) startLoad(topic string) (*load, error) {
	at := r.bootstrap()
	if _, err := r.client("", "topic", "create", topic, "--partitions", "8", "-b", at); err != nil {
		return nil, err
	}
	l := &load{topic: topic, stop: make(chan struct{})}
	l.command = exec.Command(r.binary.path, "produce", topic,
		"--batch-bytes", "1", "--timeout", "60", "-b", at)
	l.command.Stderr = &l.errors
	input, err := l.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	l.input = input
	if err := l.command.Start(); err != nil {
		return nil, err
	}
	l.pump.Add(1)
	go func() {
		defer l.pump.Done()
		for {
			select {
			case <-l.stop:
				return
			case <-time.After(between):
			}
			if _, err := fmt.Fprintf(l.input, "line %06d\n", l.sent); err != nil {
				l.broken = err
				return
			}
			l.sent++
		}
	}()
	return l, nil
}

// finish ends the load and holds what is there against what was acknowledged.
func (l *load) finish(r *rehearsal) (int, error) {
	close(l.stop)
	l.pump.Wait()
	closed := l.input.Close()
	if err := l.command.Wait(); err != nil {
		return 0, fmt.Errorf("%d lines: produce: %w: %s", l.sent, err, strings.TrimSpace(l.errors.String()))
	}
	if err := errors.Join(l.broken, closed); err != nil {
		return 0, err
	}
	got, err := r.client("", "consume", l.topic, "-b", r.bootstrap())
	if err != nil {
		return 0, err
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	sort.Strings(lines)
	if len(lines) != l.sent {
		return 0, fmt.Errorf("%d records of %d acknowledged ones came back", len(lines), l.sent)
	}
	for number, line := range lines {
		if line != fmt.Sprintf("line %06d", number) {
			return 0, fmt.Errorf("record %d is %q", number, line)
		}
	}
	return l.sent, nil
}

// abandon ends a load of a rehearsal that failed.
func (l *load) abandon() {
	_ = l.command.Process.Kill()
}
