package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// object is one Kubernetes object, as written.
type object struct {
	content map[string]any
	path    string
}

func (o object) apiVersion() string { return text(o.content, "apiVersion") }
func (o object) kind() string       { return text(o.content, "kind") }
func (o object) name() string       { return text(o.content, "metadata", "name") }

func (o object) place() string {
	return fmt.Sprintf("%s: %s %s", o.path, o.kind(), o.name())
}

// release is everything that one rendering makes.
type release struct {
	objects []object
}

// at walks down maps; nil where there is nothing.
func at(node any, path ...string) any {
	for _, step := range path {
		inner, ok := node.(map[string]any)
		if !ok {
			return nil
		}
		node = inner[step]
	}
	return node
}

func text(node any, path ...string) string {
	found, _ := at(node, path...).(string)
	return found
}

func list(node any, path ...string) []any {
	found, _ := at(node, path...).([]any)
	return found
}

func number(node any, path ...string) int {
	found, _ := at(node, path...).(float64)
	return int(found)
}

func readManifests(path string, found *findings) (*release, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	read := &release{}
	seen := map[string]bool{}
	for _, document := range regexp.MustCompile(`(?m)^---\s*$`).Split(string(content), -1) {
		if strings.TrimSpace(document) == "" {
			continue
		}
		var fields map[string]any
		// Strict: a key that stands twice is refused.
		if err := yaml.UnmarshalStrict([]byte(document), &fields); err != nil {
			found.add(path, "%v", err)
			continue
		}
		if len(fields) == 0 {
			continue // Nothing but comments.
		}
		object := object{content: fields, path: path}
		if seen[object.kind()+object.name()] {
			found.add(object.place(), "stands twice")
		}
		seen[object.kind()+object.name()] = true
		read.objects = append(read.objects, object)
	}
	if len(read.objects) == 0 {
		found.add(path, "holds no object")
	}
	return read, nil
}

func (r *release) of(kind string) []object {
	var matching []object
	for _, object := range r.objects {
		if object.kind() == kind {
			matching = append(matching, object)
		}
	}
	return matching
}

func (r *release) find(kind, name string) (object, bool) {
	for _, object := range r.of(kind) {
		if object.name() == name {
			return object, true
		}
	}
	return object{}, false
}

// pod is one pod that a StatefulSet makes.
type pod struct {
	set     object
	name    string
	ordinal int
}

func (p pod) template() any { return at(p.set.content, "spec", "template") }

func (p pod) container() any {
	containers := list(p.template(), "spec", "containers")
	if len(containers) == 0 {
		return nil
	}
	return containers[0]
}

// labels are those of the template and what Kubernetes adds.
func (p pod) labels() map[string]string {
	labels := map[string]string{
		"statefulset.kubernetes.io/pod-name": p.name,
		"apps.kubernetes.io/pod-index":       fmt.Sprint(p.ordinal),
	}
	template, _ := at(p.template(), "metadata", "labels").(map[string]any)
	for key := range template {
		labels[key] = text(template, key)
	}
	return labels
}

func (p pod) matches(selector any) bool {
	wanted, ok := selector.(map[string]any)
	labels := p.labels()
	for key, value := range wanted {
		if labels[key] != value {
			return false
		}
	}
	return ok
}

// pods are those of every StatefulSet: as many as it, or its autoscaler at most, asks for.
func (r *release) pods() []pod {
	var pods []pod
	for _, set := range r.of("StatefulSet") {
		count := number(set.content, "spec", "replicas")
		for _, scaler := range r.of("HorizontalPodAutoscaler") {
			if text(scaler.content, "spec", "scaleTargetRef", "name") == set.name() {
				count = number(scaler.content, "spec", "maxReplicas")
			}
		}
		start := number(set.content, "spec", "ordinals", "start")
		for ordinal := start; ordinal < start+count; ordinal++ {
			pods = append(pods, pod{set, fmt.Sprintf("%s-%d", set.name(), ordinal), ordinal})
		}
	}
	return pods
}

// nextBroker is the pod that scaling out by one adds, of each StatefulSet of brokers alone.
func (r *release) nextBroker() []pod {
	var next []pod
	for _, set := range r.of("StatefulSet") {
		ordinal := number(set.content, "spec", "ordinals", "start") + number(set.content, "spec", "replicas")
		one := pod{set, fmt.Sprintf("%s-%d", set.name(), ordinal), ordinal}
		if one.labels()["app.kubernetes.io/component"] == "broker" {
			next = append(next, one)
		}
	}
	return next
}

// label is what the API server accepts; no schema says so.
var label = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$`)

// checkReferences looks for what an object names and nothing is.
func (r *release) checkReferences(found *findings) {
	pods := r.pods()
	if len(pods) == 0 {
		found.add("release", "has no pod")
	}
	selects := func(object object, selector any) {
		for _, pod := range pods {
			if pod.matches(selector) {
				return
			}
		}
		found.add(object.place(), "selects no pod")
	}
	for _, service := range r.of("Service") {
		selects(service, at(service.content, "spec", "selector"))
		r.checkPorts(service, pods, found)
	}
	for _, kind := range []string{"PodDisruptionBudget", "StatefulSet"} {
		for _, object := range r.of(kind) {
			selects(object, at(object.content, "spec", "selector", "matchLabels"))
		}
	}
	for _, policy := range r.of("NetworkPolicy") {
		selects(policy, at(policy.content, "spec", "podSelector", "matchLabels"))
	}
	for _, scaler := range r.of("HorizontalPodAutoscaler") {
		target := text(scaler.content, "spec", "scaleTargetRef", "name")
		if set, ok := r.find("StatefulSet", target); !ok {
			found.add(scaler.place(), "scales %s, which is not there", target)
		} else if at(set.content, "spec", "replicas") != nil {
			found.add(set.place(), "names replicas, and so does its autoscaler")
		}
	}
	for _, monitor := range r.of("ServiceMonitor") {
		matched := false
		for _, service := range r.of("Service") {
			matched = matched || contains(at(service.content, "metadata", "labels"),
				at(monitor.content, "spec", "selector", "matchLabels"))
		}
		if !matched {
			found.add(monitor.place(), "selects no service")
		}
	}
	for _, set := range r.of("StatefulSet") {
		r.checkSet(set, found)
	}
	for _, object := range r.objects {
		labels, _ := at(object.content, "metadata", "labels").(map[string]any)
		for key, value := range labels {
			if written, ok := value.(string); !ok || !label.MatchString(written) {
				found.add(object.place(), "label %s: %v is no label", key, value)
			}
		}
	}
}

func contains(labels, wanted any) bool {
	pairs, _ := wanted.(map[string]any)
	for key, value := range pairs {
		if at(labels, key) != value {
			return false
		}
	}
	return true
}

func (r *release) checkPorts(service object, pods []pod, found *findings) {
	for _, port := range list(service.content, "spec", "ports") {
		if node := number(port, "nodePort"); node != 0 && (node < 30000 || node > 32767) {
			found.add(service.place(), "nodePort %d is not in 30000-32767", node)
		}
		for _, pod := range pods {
			if !pod.matches(at(service.content, "spec", "selector")) {
				continue
			}
			named := false
			for _, open := range list(pod.container(), "ports") {
				named = named || text(open, "name") == text(port, "targetPort")
			}
			if !named {
				found.add(service.place(), "port %s: %s has none of that name",
					text(port, "targetPort"), pod.name)
				break
			}
		}
	}
}

// checkSet looks at what a StatefulSet's pods mount and what they must not do without.
func (r *release) checkSet(set object, found *findings) {
	service := text(set.content, "spec", "serviceName")
	if headless, ok := r.find("Service", service); !ok {
		found.add(set.place(), "service %s is not there", service)
	} else if text(headless.content, "spec", "clusterIP") != "None" {
		found.add(set.place(), "service %s has an address, so pods have no names", service)
	}
	spec := at(set.content, "spec", "template", "spec")
	if linked, ok := at(spec, "enableServiceLinks").(bool); !ok || linked {
		found.add(set.place(), "service links would become settings")
	}
	volumes := map[string]bool{}
	for _, claim := range list(set.content, "spec", "volumeClaimTemplates") {
		volumes[text(claim, "metadata", "name")] = true
	}
	for _, volume := range list(spec, "volumes") {
		volumes[text(volume, "name")] = true
		if name := text(volume, "configMap", "name"); name != "" {
			if _, ok := r.find("ConfigMap", name); !ok {
				found.add(set.place(), "ConfigMap %s is not there", name)
			}
		}
	}
	account := text(spec, "serviceAccountName")
	if _, ok := r.find("ServiceAccount", account); !ok && account != "default" {
		found.add(set.place(), "ServiceAccount %s is not there", account)
	}
	for _, container := range list(spec, "containers") {
		for _, mount := range list(container, "volumeMounts") {
			if !volumes[text(mount, "name")] {
				found.add(set.place(), "volume %s is not there", text(mount, "name"))
			}
		}
	}
}
