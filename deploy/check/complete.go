package main

import (
	"os"

	"sigs.k8s.io/yaml"
)

// checkPortNames looks for ports that are named and that nobody opens: a scrape, a probe or a policy
// by such a name does nothing, and says nothing.
func (r *release) checkPortNames(found *findings) {
	for _, monitor := range r.of("ServiceMonitor") {
		open := map[string]bool{}
		for _, service := range r.of("Service") {
			if !contains(at(service.content, "metadata", "labels"),
				at(monitor.content, "spec", "selector", "matchLabels")) {
				continue
			}
			for _, port := range list(service.content, "spec", "ports") {
				open[text(port, "name")] = true
			}
		}
		for _, endpoint := range list(monitor.content, "spec", "endpoints") {
			if port := text(endpoint, "port"); !open[port] {
				found.add(monitor.place(), "no service that it selects has a port %q", port)
			}
		}
	}
	for _, policy := range r.of("NetworkPolicy") {
		selector := at(policy.content, "spec", "podSelector", "matchLabels")
		for _, rule := range list(policy.content, "spec", "ingress") {
			for _, port := range list(rule, "ports") {
				if name := text(port, "port"); name != "" && !r.somePodOpens(selector, name) {
					found.add(policy.place(), "no pod that it selects has a port %q", name)
				}
			}
		}
	}
	for _, set := range r.of("StatefulSet") {
		container := pod{set: set}.container()
		for _, kind := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
			if port := text(container, kind, "httpGet", "port"); !opens(container, port) {
				found.add(set.place(), "%s asks a port %q, which is not there", kind, port)
			}
		}
	}
}

func opens(container any, name string) bool {
	for _, port := range list(container, "ports") {
		if text(port, "name") == name {
			return true
		}
	}
	return false
}

func (r *release) somePodOpens(selector any, name string) bool {
	for _, pod := range r.pods() {
		if pod.matches(selector) && opens(pod.container(), name) {
			return true
		}
	}
	return false
}

// promised is what the chart offers; each must be in some rendering, or nothing checks it.
var promised = []struct {
	what string
	in   func(*release) bool
}{
	{"controllers with volumes", sets("controller", claims)},
	{"brokers without volumes", sets("broker", func(set object) bool { return !claims(set) })},
	{"brokers with volumes", sets("broker", claims)},
	{"topology spread", sets("", has("spec", "template", "spec", "topologySpreadConstraints"))},
	{"secrets of the store", sets("", func(set object) bool {
		for _, source := range list(pod{set: set}.container(), "envFrom") {
			if text(source, "secretRef", "name") != "" {
				return true
			}
		}
		return false
	})},
	{"workload identity", some("ServiceAccount", has("metadata", "annotations"))},
	{"disruption budgets", some("PodDisruptionBudget", has("spec", "maxUnavailable"))},
	{"network policies", some("NetworkPolicy", has("spec", "ingress"))},
	{"headless services", some("Service", is("None", "spec", "clusterIP"))},
	{"node ports", some("Service", is("NodePort", "spec", "type"))},
	{"load balancers", some("Service", is("LoadBalancer", "spec", "type"))},
	{"service monitors", some("ServiceMonitor", has("spec", "endpoints"))},
	{"rules", some("PrometheusRule", has("spec", "groups"))},
	{"autoscaling on the broker's metrics", some("HorizontalPodAutoscaler", func(o object) bool {
		for _, metric := range list(o.content, "spec", "metrics") {
			if text(metric, "pods", "metric", "name") != "" {
				return true
			}
		}
		return false
	})},
}

func some(kind string, wanted func(object) bool) func(*release) bool {
	return func(r *release) bool {
		for _, object := range r.of(kind) {
			if wanted(object) {
				return true
			}
		}
		return false
	}
}

// sets asks StatefulSets of a component, or of any.
func sets(component string, wanted func(object) bool) func(*release) bool {
	return some("StatefulSet", func(set object) bool {
		of := pod{set: set}.labels()["app.kubernetes.io/component"]
		return (component == "" || of == component) && wanted(set)
	})
}

func claims(set object) bool { return len(list(set.content, "spec", "volumeClaimTemplates")) > 0 }

func has(path ...string) func(object) bool {
	return func(o object) bool { return at(o.content, path...) != nil }
}

func is(value string, path ...string) func(object) bool {
	return func(o object) bool { return text(o.content, path...) == value }
}

// checkPromises names what is in no rendering.
func checkPromises(releases []*release, found *findings) {
	for _, promise := range promised {
		kept := false
		for _, release := range releases {
			kept = kept || promise.in(release)
		}
		if !kept {
			found.add("golden renderings", "none has %s", promise.what)
		}
	}
}

// adapterMetrics are the names that prometheus-adapter is told to make.
func adapterMetrics(path string) (map[string]bool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(content, &values); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, rule := range list(values, "rules", "custom") {
		names[text(rule, "name", "as")] = true
	}
	return names, nil
}

// checkAdapter looks for metrics of autoscalers that nobody makes.
func (r *release) checkAdapter(made map[string]bool, found *findings) {
	for _, scaler := range r.of("HorizontalPodAutoscaler") {
		for _, metric := range list(scaler.content, "spec", "metrics") {
			if name := text(metric, "pods", "metric", "name"); name != "" && !made[name] {
				found.add(scaler.place(), "prometheus-adapter is not told to make %s", name)
			}
		}
	}
}
