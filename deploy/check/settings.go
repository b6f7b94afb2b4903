package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

// reference is how Kubernetes names a variable inside a value.
var reference = regexp.MustCompile(`\$\(([A-Za-z_][A-Za-z0-9_]*)\)`)

// imageEnvironment reads the ENV lines of the image: each HEADWATER_ variable is a setting, which a
// pod gets along with its own.
func imageEnvironment(path string) (map[string]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	variables := map[string]string{}
	for _, line := range strings.Split(string(content), "\n") {
		if rest, ok := strings.CutPrefix(line, "ENV "); ok {
			name, value, _ := strings.Cut(rest, "=")
			variables[name] = value
		}
	}
	return variables, nil
}

// field is what the downward API answers.
func (p pod) field(path, namespace string) (string, error) {
	switch path {
	case "metadata.name":
		return p.name, nil
	case "metadata.namespace":
		return namespace, nil
	case "status.hostIP", "status.podIP":
		return "192.0.2.1", nil
	}
	if rest, ok := strings.CutPrefix(path, "metadata.labels['"); ok {
		return p.labels()[strings.TrimSuffix(rest, "']")], nil
	}
	return "", fmt.Errorf("fieldPath %s is not understood", path)
}

// environment is what the kubelet gives the container: in order, $(NAME) put in.
func (p pod) environment(image map[string]string, namespace string) (map[string]string, error) {
	variables := map[string]string{}
	for name, value := range image {
		variables[name] = value
	}
	own := map[string]string{}
	for _, entry := range list(p.container(), "env") {
		name, value := text(entry, "name"), text(entry, "value")
		if path := text(entry, "valueFrom", "fieldRef", "fieldPath"); path != "" {
			answer, err := p.field(path, namespace)
			if err != nil {
				return nil, err
			}
			value = answer
		} else {
			var unknown []string
			value = reference.ReplaceAllStringFunc(value, func(written string) string {
				known, ok := own[reference.FindStringSubmatch(written)[1]]
				if !ok {
					unknown = append(unknown, written)
				}
				return known
			})
			if len(unknown) > 0 {
				return nil, fmt.Errorf("%s: %s stands before its definition", name, unknown)
			}
		}
		own[name], variables[name] = value, value
	}
	return variables, nil
}

// file puts the mounted ConfigMap of a pod where `headwater config` can read it.
func (r *release) file(p pod, folder string) (string, error) {
	args := list(p.container(), "args")
	if len(args) != 3 || args[0] != "serve" || args[1] != "--config" {
		return "", fmt.Errorf("args %v are not understood", args)
	}
	path := args[2].(string)
	for _, mount := range list(p.container(), "volumeMounts") {
		below, err := filepath.Rel(text(mount, "mountPath"), path)
		if err != nil || strings.HasPrefix(below, "..") {
			continue
		}
		for _, volume := range list(p.template(), "spec", "volumes") {
			if text(volume, "name") != text(mount, "name") {
				continue
			}
			config, _ := r.find("ConfigMap", text(volume, "configMap", "name"))
			content := text(config.content, "data", below)
			if content == "" {
				return "", fmt.Errorf("%s is in no ConfigMap", path)
			}
			copied := filepath.Join(folder, p.name+".toml")
			return copied, os.WriteFile(copied, []byte(content), 0o600)
		}
	}
	return "", fmt.Errorf("%s is not mounted", path)
}

// checkSettings asks the product itself what it makes of each pod's configuration.
func (r *release) checkSettings(
	binary *binary, image map[string]string, namespace string, found *findings,
) (int, error) {
	folder, err := os.MkdirTemp("", "headwater-check-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	nodes := nodes{}
	pods := r.pods()
	for _, pod := range pods {
		place := pod.set.path + ": Pod " + pod.name
		file, err := r.file(pod, folder)
		if err != nil {
			found.add(place, "%v", err)
			continue
		}
		environment, err := pod.environment(image, namespace)
		if err != nil {
			found.add(place, "%v", err)
			continue
		}
		settings, err := binary.config(file, environment)
		if err != nil {
			found.add(place, "%v", err)
			continue
		}
		domain := fmt.Sprintf("%s.%s.%s.svc.cluster.local", pod.name,
			text(pod.set.content, "spec", "serviceName"), namespace)
		nodes.add(place, domain, settings, found)
		pod.checkMemory(place, settings, found)
		pod.checkGrace(place, settings, found)
	}
	nodes.check(found)
	return len(pods), nil
}

// checkMemory wants room above the budget for what it does not count.
func (p pod) checkMemory(place string, settings map[string]string, found *findings) {
	var mebibytes, budget int
	limit := text(p.container(), "resources", "limits", "memory")
	if _, err := fmt.Sscanf(limit, "%dMi", &mebibytes); err != nil {
		found.add(place, "memory limit %q is not in Mi", limit)
	}
	if _, err := fmt.Sscanf(settings["memory.budget.bytes"], "%d", &budget); err != nil {
		found.add(place, "memory.budget.bytes: %v", err)
	}
	if budget*4 > mebibytes<<20*3 {
		found.add(place, "memory.budget.bytes %d is over three quarters of %s", budget, limit)
	}
}

// checkGrace wants an ordered stop to end before the kubelet's patience does.
func (p pod) checkGrace(place string, settings map[string]string, found *findings) {
	var milliseconds int
	if _, err := fmt.Sscanf(settings["shutdown.timeout.ms"], "%d", &milliseconds); err != nil {
		found.add(place, "shutdown.timeout.ms: %v", err)
	}
	grace := number(p.template(), "spec", "terminationGracePeriodSeconds")
	if grace*1000 < milliseconds+10_000 {
		found.add(place, "%d s of grace are too few for shutdown.timeout.ms %d", grace, milliseconds)
	}
}

// nodes are those of one cluster, by place.
type nodes []node

type node struct {
	place, domain string
	settings      map[string]string
}

func (n *nodes) add(place, domain string, settings map[string]string, found *findings) {
	for _, other := range *n {
		if other.settings["node.id"] == settings["node.id"] {
			found.add(place, "has the node id of %s", other.place)
		}
		mine, theirs := settings["advertised.listeners"], other.settings["advertised.listeners"]
		for _, address := range strings.Split(mine, ",") {
			if address != "" && strings.Contains(","+theirs+",", ","+address+",") {
				found.add(place, "advertises %s, as %s does", address, other.place)
			}
		}
	}
	*n = append(*n, node{place, domain, settings})
}

// check wants the voters that everybody names to be the voters there are.
func (n nodes) check(found *findings) {
	var voters []string
	for _, node := range n {
		if strings.Contains(node.settings["process.roles"], "controller") {
			voters = append(voters,
				fmt.Sprintf("%s@%s:9093", node.settings["node.id"], node.domain))
		}
	}
	sort.Strings(voters)
	for _, node := range n {
		named := strings.Split(node.settings["controller.quorum.voters"], ",")
		sort.Strings(named)
		if strings.Join(named, ",") != strings.Join(voters, ",") {
			found.add(node.place, "names the voters %v, and they are %v", named, voters)
		}
	}
}
