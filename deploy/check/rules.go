package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

type ruleGroups struct {
	Groups []struct {
		Name     string `json:"name"`
		Interval string `json:"interval"`
		Rules    []rule `json:"rules"`
	} `json:"groups"`
}

type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// foreign are metrics of Prometheus and of Kubernetes' own exporters.
var foreign = []string{"up", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}

// checkRules parses every expression and looks up what it asks for. Each alert names its runbook.
func checkRules(path string, page metricNames, found *findings) (int, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var file ruleGroups
	if err := yaml.UnmarshalStrict(content, &file); err != nil {
		found.add(path, "%v", err)
		return 0, nil
	}
	rules := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rules++
			place := path + ": " + rule.Alert
			if rule.Alert == "" || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" {
				found.add(place, "needs a name, a severity and a summary")
			}
			page.checkExpression(place, rule.Expr, found)
			runbook := rule.Annotations["runbook"]
			if _, err := os.Stat(runbook); err != nil {
				found.add(place, "runbook %q: %v", runbook, err)
			}
		}
	}
	if rules == 0 {
		found.add(path, "holds no rule")
	}
	return rules, nil
}

func (m metricNames) checkExpression(place, expression string, found *findings) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		found.add(place, "%v", err)
		return
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			m.checkName(place, selector.Name, found)
		}
		return nil
	})
}

func (m metricNames) checkName(place, name string, found *findings) {
	for _, known := range foreign {
		if name == known {
			return
		}
	}
	if !m[name] {
		found.add(place, "no broker has the metric %q", name)
	}
}

// checkMetrics looks up what autoscalers ask prometheus-adapter for: a rate of a counter.
func (r *release) checkMetrics(page metricNames, found *findings) {
	for _, scaler := range r.of("HorizontalPodAutoscaler") {
		for _, metric := range list(scaler.content, "spec", "metrics") {
			name := text(metric, "pods", "metric", "name")
			if name == "" {
				continue
			}
			counter, ok := strings.CutSuffix(name, "_per_second")
			if !ok {
				found.add(scaler.place(), "%s is no rate", name)
				continue
			}
			page.checkName(scaler.place(), fmt.Sprintf("%s_total", counter), found)
		}
	}
}
