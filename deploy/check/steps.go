package main

import (
	"fmt"
	"strings"
	"time"
)

// What operators do to a cluster that serves, with pods as processes. Each step leaves every pod
// ready, as the StatefulSet would wait for it.

// bootstrap is every Kafka address there may be.
func (r *rehearsal) bootstrap() string {
	var all []string
	for _, one := range r.processes {
		if port, serves := r.ports[one.pod.name]["kafka"]; serves {
			all = append(all, fmt.Sprintf("127.0.0.1:%d", port))
		}
	}
	return strings.Join(all, ",")
}

// admin is the admin page of some broker.
func (r *rehearsal) admin() string {
	for _, one := range r.processes {
		if _, serves := r.ports[one.pod.name]["kafka"]; serves {
			return fmt.Sprintf("127.0.0.1:%d", r.ports[one.pod.name]["admin"])
		}
	}
	return ""
}

// rollingUpgrade restarts one pod after the other, newest ordinal first, controllers before brokers.
func (r *rehearsal) rollingUpgrade(image map[string]string) error {
	var controllers, brokers []*process
	for _, one := range r.processes {
		if _, votes := r.ports[one.pod.name]["controller"]; votes {
			controllers = append([]*process{one}, controllers...)
		} else {
			brokers = append([]*process{one}, brokers...)
		}
	}
	for _, one := range append(controllers, brokers...) {
		if err := r.restart(one, image); err != nil {
			return err
		}
	}
	return nil
}

// restart is what a StatefulSet does to one pod.
func (r *rehearsal) restart(one *process, image map[string]string) error {
	if err := r.remove(one); err != nil {
		return err
	}
	if err := r.start(one.pod, image); err != nil {
		return err
	}
	return r.awaitProbe("readinessProbe")
}

// remove ends one pod in order.
func (r *rehearsal) remove(gone *process) error {
	if err := gone.terminate(); err != nil {
		return err
	}
	if err := gone.await(); err != nil {
		return err
	}
	var left []*process
	for _, one := range r.processes {
		if one != gone {
			left = append(left, one)
		}
	}
	r.processes = left
	return nil
}

// scaleIn drains the broker with the highest ordinal, which a StatefulSet takes away first, as the
// runbook does.
func (r *rehearsal) scaleIn() error {
	newest := r.processes[0]
	for _, one := range r.processes {
		_, votes := r.ports[one.pod.name]["controller"]
		if !votes && one.pod.ordinal > newest.pod.ordinal {
			newest = one
		}
	}
	id := fmt.Sprint(newest.pod.ordinal)
	if _, err := r.client("", "broker", "drain", id, "--wait", "--within", "60", "--admin", r.admin()); err != nil {
		return err
	}
	if err := r.remove(newest); err != nil {
		return err
	}
	_, err := r.client("", "broker", "resume", id, "--admin", r.admin())
	return err
}

// scaleOut starts one more broker and has some partitions come to it.
func (r *rehearsal) scaleOut(more pod, image map[string]string) error {
	if err := r.start(more, image); err != nil {
		return err
	}
	if err := r.awaitProbe("readinessProbe"); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for {
		listed, err := r.client("", "broker", "list", "--admin", r.admin())
		if err != nil {
			return err
		}
		if strings.Contains(listed, fmt.Sprint(more.ordinal)) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("broker %d does not show:\n%s", more.ordinal, listed)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
