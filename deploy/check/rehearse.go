package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A rehearsal runs the pods of one rendering as processes of this machine: each with the file and
// environment that Kubernetes would give it, but ports of its own on 127.0.0.1 and one directory as
// the object store. It asks the probes, puts records through, and stops everything by SIGTERM
// within the grace that the pods have. Where brokers are pods of their own, it scales and upgrades
// them before that, while records are written.

// patience is how long a cluster on a busy machine may take to be ready.
const patience = 90 * time.Second

type process struct {
	pod     pod
	command *exec.Cmd
	ended   chan error
	log     string
}

type rehearsal struct {
	release   *release
	binary    *binary
	folder    string
	namespace string
	// What an address of the rendering is here.
	addresses *strings.Replacer
	ports     map[string]map[string]int
	processes []*process
}

// rehearse returns how many pods ran.
func (r *release) rehearse(binary *binary, image map[string]string, namespace string) (count int, err error) {
	folder, err := os.MkdirTemp("", "headwater-rehearsal-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	run := &rehearsal{release: r, binary: binary, folder: folder, namespace: namespace}
	more := r.nextBroker()
	if err := run.placePods(append(r.pods(), more...)); err != nil {
		return 0, err
	}
	defer run.kill()
	for _, pod := range r.pods() {
		if err := run.start(pod, image); err != nil {
			return 0, fmt.Errorf("%s: %w", pod.name, err)
		}
	}
	if err := errors.Join(run.awaitProbe("readinessProbe"), run.awaitProbe("livenessProbe")); err != nil {
		return 0, errors.Join(err, run.logs())
	}
	if err := run.records(); err != nil {
		return 0, errors.Join(err, run.logs())
	}
	for _, broker := range more {
		if err := run.operate(broker, image); err != nil {
			return 0, errors.Join(err, run.logs())
		}
	}
	if err := run.stop(); err != nil {
		return 0, errors.Join(err, run.logs())
	}
	return len(run.processes), nil
}

// operate does to a serving cluster what runbooks say, and wants every acknowledged record back.
func (r *rehearsal) operate(more pod, image map[string]string) error {
	load, err := r.startLoad("rehearsal-load")
	if err != nil {
		return err
	}
	defer load.abandon()
	steps := []struct {
		name string
		do   func() error
	}{
		{"scale out", func() error { return r.scaleOut(more, image) }},
		{"rolling upgrade", func() error { return r.rollingUpgrade(image) }},
		{"finalize", func() error {
			_, err := r.client("", "cluster", "finalize", "-b", r.bootstrap())
			return err
		}},
		{"scale in", r.scaleIn},
	}
	for _, step := range steps {
		began := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("  %s: %.1f s\n", step.name, time.Since(began).Seconds())
	}
	records, err := load.finish(r)
	if err != nil {
		return err
	}
	fmt.Printf("  %d records written meanwhile, each there once\n", records)
	return nil
}

// placePods gives each named port of each pod a free one here.
func (r *rehearsal) placePods(pods []pod) error {
	r.ports = map[string]map[string]int{}
	var pairs []string
	for _, pod := range pods {
		ports := map[string]int{}
		for _, port := range list(pod.container(), "ports") {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			// Held until all are drawn, so that none is drawn twice.
			defer listener.Close()
			free := listener.Addr().(*net.TCPAddr).Port
			ports[text(port, "name")] = free
			host := fmt.Sprintf("%s.%s.%s.svc.cluster.local:%d", pod.name,
				text(pod.set.content, "spec", "serviceName"), r.namespace, number(port, "containerPort"))
			pairs = append(pairs, host, fmt.Sprintf("127.0.0.1:%d", free))
		}
		r.ports[pod.name] = ports
	}
	r.addresses = strings.NewReplacer(pairs...)
	return nil
}

// own turns what is written for one pod into what holds here.
func (r *rehearsal) own(p pod, written string) string {
	for _, port := range list(p.container(), "ports") {
		bound := fmt.Sprintf("0.0.0.0:%d", number(port, "containerPort"))
		here := fmt.Sprintf("127.0.0.1:%d", r.ports[p.name][text(port, "name")])
		written = strings.ReplaceAll(written, bound, here)
	}
	for _, mount := range list(p.container(), "volumeMounts") {
		if text(mount, "name") == "data" {
			written = strings.ReplaceAll(written, text(mount, "mountPath"), filepath.Join(r.folder, p.name))
		}
	}
	return r.addresses.Replace(written)
}

func (r *rehearsal) start(p pod, image map[string]string) error {
	if err := os.MkdirAll(filepath.Join(r.folder, p.name), 0o700); err != nil {
		return err
	}
	file, err := r.release.file(p, r.folder)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(r.own(p, string(content))), 0o600); err != nil {
		return err
	}
	environment, err := p.environment(image, r.namespace)
	if err != nil {
		return err
	}
	if _, elsewhere := environment["HEADWATER_OBJECT_STORE_URL"]; elsewhere {
		environment["HEADWATER_OBJECT_STORE_URL"] = "file://" + filepath.Join(r.folder, "objects")
	}
	// The last voters of a cluster that stops as a whole have no quorum to say goodbye to, and wait
	// for one as long as they may; what that leaves is recovered at the next start.
	environment["HEADWATER_SHUTDOWN_TIMEOUT_MS"] = "6000"
	started := &process{pod: p, ended: make(chan error, 1), log: file + ".log"}
	log, err := os.OpenFile(started.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	started.command = exec.Command(r.binary.path, "serve", "--config", file)
	started.command.Env = []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range environment {
		started.command.Env = append(started.command.Env, name+"="+r.own(p, value))
	}
	started.command.Stdout, started.command.Stderr = log, log
	if err := started.command.Start(); err != nil {
		return err
	}
	r.processes = append(r.processes, started)
	go func() { started.ended <- started.command.Wait() }()
	return nil
}

// awaitProbe asks every pod as the kubelet would, until each has said yes.
func (r *rehearsal) awaitProbe(kind string) error {
	deadline := time.Now().Add(patience)
	client := &http.Client{Timeout: 5 * time.Second}
	for _, one := range r.processes {
		probe := at(one.pod.container(), kind, "httpGet")
		url := fmt.Sprintf("http://127.0.0.1:%d%s",
			r.ports[one.pod.name][text(probe, "port")], text(probe, "path"))
		for {
			answer, err := client.Get(url)
			if err == nil {
				answer.Body.Close()
				if answer.StatusCode == http.StatusOK {
					break
				}
				err = errors.New(answer.Status)
			}
			select {
			case ended := <-one.ended:
				one.ended <- ended
				return fmt.Errorf("%s ended: %v", one.pod.name, ended)
			case <-time.After(100 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: %s: %w", one.pod.name, kind, err)
			}
		}
	}
	return nil
}

// records puts some through every listener that clients have.
func (r *rehearsal) records() error {
	for _, one := range r.processes {
		port, serves := r.ports[one.pod.name]["kafka"]
		if !serves {
			continue
		}
		at := fmt.Sprintf("127.0.0.1:%d", port)
		topic := "rehearsal-" + one.pod.name
		if _, err := r.client("", "topic", "create", topic, "--partitions", "4", "-b", at); err != nil {
			return err
		}
		if _, err := r.client("a\nb\nc\n", "produce", topic, "-b", at); err != nil {
			return err
		}
		got, err := r.client("", "consume", topic, "-b", at)
		if err != nil {
			return err
		}
		if lines := strings.Count(got, "\n"); lines != 3 {
			return fmt.Errorf("%s: %d records of 3 came back", one.pod.name, lines)
		}
	}
	return nil
}

func (r *rehearsal) client(input string, arguments ...string) (string, error) {
	command := exec.Command(r.binary.path, arguments...)
	command.Stdin = strings.NewReader(input)
	output, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("headwater %s: %s", strings.Join(arguments, " "), exit.Stderr)
	}
	return string(output), err
}

// stop ends brokers one by one, as scaling in does, and then the voters at once, as deleting a
// StatefulSet does; each has its pod's grace.
func (r *rehearsal) stop() error {
	var voters []*process
	for _, one := range r.processes {
		if _, votes := r.ports[one.pod.name]["controller"]; votes {
			voters = append(voters, one)
			continue
		}
		if err := errors.Join(one.terminate(), one.await()); err != nil {
			return err
		}
	}
	for _, one := range voters {
		if err := one.terminate(); err != nil {
			return err
		}
	}
	for _, one := range voters {
		if err := one.await(); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) terminate() error {
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: %w", p.pod.name, err)
	}
	return nil
}

func (p *process) await() error {
	grace := time.Duration(number(p.pod.template(), "spec", "terminationGracePeriodSeconds"))
	select {
	case ended := <-p.ended:
		p.ended <- ended
		if ended != nil {
			return fmt.Errorf("%s: %w", p.pod.name, ended)
		}
		return nil
	case <-time.After(grace * time.Second):
		return fmt.Errorf("%s did not stop within its grace", p.pod.name)
	}
}

// kill ends what a failed rehearsal leaves.
func (r *rehearsal) kill() {
	for _, one := range r.processes {
		_ = one.command.Process.Kill()
		<-one.ended
	}
}

func (r *rehearsal) logs() error {
	var all []error
	for _, one := range r.processes {
		content, _ := os.ReadFile(one.log)
		lines := strings.Split(strings.TrimSpace(string(content)), "\n")
		lines = lines[max(0, len(lines)-8):]
		all = append(all, fmt.Errorf("-- %s:\n%s", one.pod.name, strings.Join(lines, "\n")))
	}
	return errors.Join(all...)
}
