package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// openapi is Kubernetes' document in small.
const openapi = `{"definitions": {
  "io.k8s.api.core.v1.Thing": {
    "type": "object", "required": ["spec"],
    "properties": {
      "apiVersion": {"type": "string"}, "kind": {"type": "string"},
      "metadata": {"$ref": "#/definitions/Meta"},
      "spec": {"$ref": "#/definitions/Spec"}},
    "x-kubernetes-group-version-kind": [{"group": "", "kind": "Thing", "version": "v1"}]},
  "Meta": {"type": "object", "properties": {"name": {"type": "string"},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}}}},
  "Spec": {"type": "object", "required": ["size"], "properties": {
    "size": {"$ref": "#/definitions/Quantity"}, "port": {"$ref": "#/definitions/Port"},
    "items": {"type": "array", "items": {"$ref": "#/definitions/Meta"}}}},
  "Port": {"type": "string", "format": "int-or-string"},
  "Quantity": {"type": "string", "description": "Quantity is a fixed-point representation"}}}`

const custom = `
spec:
  group: example.com
  names: {kind: Custom}
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          required: [spec]
          properties:
            apiVersion: {type: string}
            kind: {type: string}
            metadata: {type: object}
            spec: {type: object, properties: {interval: {type: string, pattern: '^[0-9]+s$'}}}
`

func written(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func validated(t *testing.T, manifest string) []string {
	t.Helper()
	schemas, err := loadSchemas(written(t, "openapi.json", openapi),
		[]string{written(t, "crd.yaml", custom)})
	if err != nil {
		t.Fatal(err)
	}
	found := &findings{}
	release, err := readManifests(written(t, "manifest.yaml", manifest), found)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range release.objects {
		schemas.validate(object, found)
	}
	return found.all
}

func TestSchemasRefuseWhatTheServerWould(t *testing.T) {
	const thing = "apiVersion: v1\nkind: Thing\nmetadata: {name: a, labels: {x: z}}\n"
	const made = "apiVersion: example.com/v1\nkind: Custom\nmetadata: {name: a, namespace: b}\n"
	cases := []struct{ manifest, wrong string }{
		{thing + "spec: {size: 1Gi, port: http, items: [{name: b}]}", ""},
		{thing + "spec: {size: 1, port: 80}", ""},
		{thing + "spec: {size: 1Gi, prot: 80}", "prot"},
		{thing + "spec: {size: 1Gi, port: 8.5}", "/spec/port"},
		{thing + "spec: {size: 1Gi, items: [{nam: b}]}", "nam"},
		{thing + "spec: {size: 1Gi, items: [{name: 7}]}", "/spec/items/0/name"},
		{thing + "spec: {port: 80}", "size"},
		{thing + "spec: {size: 1Gi}\nspec: {size: 2Gi}", "already set in map"},
		{thing, "spec"},
		{strings.Replace(thing, "name: a, ", "", 1) + "spec: {size: 1}", "has no name"},
		{strings.Replace(thing, "Thing", "Thong", 1), "no schema for v1 Thong"},
		{strings.Replace(thing, "x: z", "x: 1", 1) + "spec: {size: 1}", "/metadata/labels/x"},
		{made + "spec: {interval: 15s}", ""},
		{made + "spec: {interval: soon}", "/spec/interval"},
		{made + "spec: {intervall: 15s}", "intervall"},
		{"# nothing", "holds no object"},
	}
	for _, test := range cases {
		told := strings.Join(validated(t, test.manifest), "\n")
		if (told == "") != (test.wrong == "") || !strings.Contains(told, test.wrong) {
			t.Errorf("%s\nwants %q, told %q", test.manifest, test.wrong, told)
		}
	}
}

const set = `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: broker}
spec:
  replicas: 2
  ordinals: {start: 100}
  serviceName: broker
  selector: {matchLabels: {app: broker}}
  template:
    metadata: {labels: {app: broker}}
    spec:
      enableServiceLinks: false
      serviceAccountName: default
      containers:
        - name: headwater
          args: [serve, --config, /etc/headwater/headwater.toml]
          ports: [{name: kafka, containerPort: 9092}]
          env:
            - {name: HEADWATER_NODE_ID, valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}}
            - {name: HEADWATER_ADVERTISED_LISTENERS, value: "PLAINTEXT://b-$(HEADWATER_NODE_ID):9092"}
          volumeMounts: [{name: config, mountPath: /etc/headwater}]
      volumes: [{name: config, configMap: {name: broker}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: broker}
data: {headwater.toml: "x = 1"}
---
apiVersion: v1
kind: Service
metadata: {name: broker}
spec:
  clusterIP: None
  selector: {app: broker}
  ports: [{name: kafka, port: 9092, targetPort: kafka}]
`

func rendered(t *testing.T, manifest string) *release {
	t.Helper()
	found := &findings{}
	release, err := readManifests(written(t, "release.yaml", manifest), found)
	if err != nil || len(found.all) > 0 {
		t.Fatal(err, found.all)
	}
	return release
}

func TestReferencesThatLeadNowhereAreFound(t *testing.T) {
	cases := []struct{ from, to, wrong string }{
		{"", "", ""},
		{"serviceName: broker", "serviceName: other", "service other is not there"},
		{"clusterIP: None", "type: ClusterIP", "has an address"},
		{"selector: {app: broker}", "selector: {app: borker}", "selects no pod"},
		{"targetPort: kafka", "targetPort: kakfa", "has none of that name"},
		{"configMap: {name: broker}", "configMap: {name: other}", "ConfigMap other is not there"},
		{"[{name: config, mountPath", "[{name: other, mountPath", "volume other is not there"},
		{"enableServiceLinks: false", "hostNetwork: false", "service links"},
		{"serviceAccountName: default", "serviceAccountName: x", "ServiceAccount x"},
		{"targetPort: kafka", "targetPort: kafka, nodePort: 31", "30000-32767"},
		{"metadata: {name: broker}\ndata", "metadata: {name: broker, labels: {a: b/c}}\ndata", "is no label"},
	}
	for _, test := range cases {
		found := &findings{}
		rendered(t, strings.Replace(set, test.from, test.to, 1)).checkReferences(found)
		told := strings.Join(found.all, "\n")
		if (told == "") != (test.wrong == "") || !strings.Contains(told, test.wrong) {
			t.Errorf("%s for %s wants %q, told %q", test.to, test.from, test.wrong, told)
		}
	}
}

func TestPodsGetTheirEnvironmentAsTheKubeletGivesIt(t *testing.T) {
	image := map[string]string{"HEADWATER_ADVERTISED_LISTENERS": "image", "HEADWATER_LEASE_MS": "7"}
	pods := rendered(t, set).pods()
	if len(pods) != 2 || pods[1].name != "broker-101" {
		t.Fatal(pods)
	}
	got, err := pods[1].environment(image, "ns")
	want := map[string]string{
		"HEADWATER_NODE_ID":              "101",
		"HEADWATER_ADVERTISED_LISTENERS": "PLAINTEXT://b-101:9092",
		"HEADWATER_LEASE_MS":             "7",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatal(got, err)
	}
	early := strings.Replace(set, "b-$(HEADWATER_NODE_ID)", "b-$(LATER)", 1)
	if _, err := rendered(t, early).pods()[0].environment(image, "ns"); err == nil {
		t.Fatal("a variable that is not defined before was put in")
	}
}

func TestNodesMustAgreeOnVotersAndNotOnIds(t *testing.T) {
	settings := func(id, roles, voters, advertised string) map[string]string {
		return map[string]string{"node.id": id, "process.roles": roles,
			"controller.quorum.voters": voters, "advertised.listeners": advertised}
	}
	check := func(second map[string]string) string {
		found, cluster := &findings{}, nodes{}
		cluster.add("one", "c", settings("1", "controller", "1@c:9093", ""), found)
		cluster.add("two", "b", second, found)
		cluster.check(found)
		return strings.Join(found.all, "\n")
	}
	if told := check(settings("2", "broker", "1@c:9093", "P://b:1")); told != "" {
		t.Error(told)
	}
	if told := check(settings("1", "broker", "1@c:9093", "P://b:1")); !strings.Contains(told, "node id") {
		t.Error(told)
	}
	if told := check(settings("2", "broker", "1@d:9093", "P://b:1")); !strings.Contains(told, "voters") {
		t.Error(told)
	}
}

func TestCommandsAreTakenFromCodeBlocks(t *testing.T) {
	cases := []struct {
		line string
		want [][]string
	}{
		{"$ headwater topic list --output json | head", [][]string{{"topic", "list", "--output", "json"}}},
		{"kubectl exec headwater-broker-100 -- headwater cluster status", [][]string{{"cluster", "status"}}},
		{"helm upgrade headwater deploy/helm/headwater --reuse-values", nil},
		{"# headwater topic list", nil},
		{"headwater wal abandon --reason 'its volume | is lost' --yes", [][]string{
			{"wal", "abandon", "--reason", "'its volume | is lost'", "--yes"}}},
	}
	for _, test := range cases {
		if got := invocations(test.line); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v", test.line, got)
		}
	}
	help := "Usage: x\n\nCommands:\n  drain   Moves\n  resume  Takes\n          more of it\n\nOptions:\n  --node <N>\n"
	if got := subcommandsOf(help); !reflect.DeepEqual(got, map[string]bool{"drain": true, "resume": true}) {
		t.Error(got)
	}
	found := &findings{}
	checkFlags("f", "c", []string{"--node", "1", "--nude=2"}, help, found)
	if len(found.all) != 1 || !strings.Contains(found.all[0], "--nude") {
		t.Error(found.all)
	}
}

func TestRulesAskForMetricsThatExist(t *testing.T) {
	page := metricNames{"headwater_x_total": true}
	for expression, wrong := range map[string]string{
		`rate(headwater_x_total{a=~"b|c"}[5m]) > 1`: "",
		`rate(headwater_y_total[5m]) > 1`:           "headwater_y_total",
		`rate(headwater_x_total[5m) > 1`:            "parse error",
	} {
		found := &findings{}
		page.checkExpression("p", expression, found)
		told := strings.Join(found.all, "\n")
		if (told == "") != (wrong == "") || !strings.Contains(told, wrong) {
			t.Errorf("%s wants %q, told %q", expression, wrong, told)
		}
	}
}

func TestNamedPortsAndPromisesAreLookedFor(t *testing.T) {
	const probes = "startupProbe: {httpGet: {port: kafka}}\n          " +
		"livenessProbe: {httpGet: {port: kafka}}\n          " +
		"readinessProbe: {httpGet: {port: kafka}}\n          env:"
	const more = `---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: broker}
spec: {selector: {matchLabels: {scrape: "true"}}, endpoints: [{port: kafka}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: broker}
spec:
  podSelector: {matchLabels: {app: broker}}
  ingress: [{ports: [{protocol: TCP, port: kafka}]}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: broker}
spec: {metrics: [{pods: {metric: {name: bytes_per_second}}}]}
`
	whole := strings.Replace(set, "env:", probes, 1) + more
	whole = strings.Replace(whole, "metadata: {name: broker}\nspec:\n  clusterIP",
		"metadata: {name: broker, labels: {scrape: \"true\"}}\nspec:\n  clusterIP", 1)
	adapter := written(t, "adapter.yaml",
		"rules: {custom: [{name: {as: bytes_per_second}}]}")
	made, err := adapterMetrics(adapter)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ from, to, wrong string }{
		{"", "", ""},
		{"endpoints: [{port: kafka}]", "endpoints: [{port: admin}]", `has a port "admin"`},
		{"TCP, port: kafka", "TCP, port: kafak", `has a port "kafak"`},
		{"livenessProbe: {httpGet: {port: kafka}}", "tty: true", "livenessProbe asks"},
		{"name: bytes_per_second", "name: bites_per_second", "not told to make bites"},
	}
	for _, test := range cases {
		found := &findings{}
		release := rendered(t, strings.Replace(whole, test.from, test.to, 1))
		release.checkPortNames(found)
		release.checkAdapter(made, found)
		told := strings.Join(found.all, "\n")
		if (told == "") != (test.wrong == "") || !strings.Contains(told, test.wrong) {
			t.Errorf("%s wants %q, told %q", test.to, test.wrong, told)
		}
	}
	found := &findings{}
	checkPromises([]*release{rendered(t, whole)}, found)
	told := strings.Join(found.all, "\n")
	if strings.Contains(told, "headless") || !strings.Contains(told, "none has node ports") {
		t.Errorf("told %q", told)
	}
}
