// Command check holds the files of deploy/ against what they speak of.
//
//	rendered manifests ─▶ Kubernetes' OpenAPI, custom resources ─▶ references among themselves
//	pods, compose services ─▶ the environment and file each gets ─▶ `headwater config`
//	alerts, autoscalers, runbooks ─▶ metrics of a live broker, `headwater … --help`
//
// Everything that is wrong is told at once; nothing is skipped.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

// findings gathers what is wrong, each with its place.
type findings struct {
	all []string
}

func (f *findings) add(place, format string, arguments ...any) {
	f.all = append(f.all, place+": "+fmt.Sprintf(format, arguments...))
}

// many is a flag that may be given several times.
type many []string

func (m *many) String() string { return strings.Join(*m, ",") }

func (m *many) Set(value string) error {
	*m = append(*m, value)
	return nil
}

type options struct {
	openapi, headwater, containerfile, namespace string
	adapter                                      string
	crds, compose, settings, rules, documents    many
	sources, rehearse                            many
	manifests                                    []string
}

func main() {
	var given options
	flag.StringVar(&given.openapi, "openapi", "", "swagger.json of Kubernetes")
	flag.StringVar(&given.headwater, "headwater", "", "the built binary")
	flag.StringVar(&given.containerfile, "containerfile", "", "whose ENV the image brings along")
	flag.StringVar(&given.adapter, "adapter", "", "values of prometheus-adapter")
	flag.StringVar(&given.namespace, "namespace", "", "that the manifests were rendered for")
	flag.Var(&given.crds, "crd", "a CustomResourceDefinition")
	flag.Var(&given.compose, "compose", "a compose file")
	flag.Var(&given.settings, "settings", "a configuration file of headwater")
	flag.Var(&given.rules, "rules", "a file of Prometheus rules")
	flag.Var(&given.documents, "document", "a Markdown file with commands and metrics")
	flag.Var(&given.sources, "source", "a folder of the product's sources")
	flag.Var(&given.rehearse, "rehearse", "a rendering whose pods are run as processes")
	flag.Parse()
	given.manifests = flag.Args()
	found := &findings{}
	if err := run(given, found); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	}
	for _, finding := range found.all {
		fmt.Fprintln(os.Stderr, finding)
	}
	if len(found.all) > 0 {
		fmt.Fprintf(os.Stderr, "%d finding(s)\n", len(found.all))
		os.Exit(1)
	}
}

func run(given options, found *findings) error {
	schemas, err := loadSchemas(given.openapi, given.crds)
	if err != nil {
		return err
	}
	binary := &binary{path: given.headwater}
	pages, err := adminPages(given.documents)
	if err != nil {
		return err
	}
	page, err := binary.metrics(pages)
	if err != nil {
		return err
	}
	image, err := imageEnvironment(given.containerfile)
	if err != nil {
		return err
	}
	made, err := adapterMetrics(given.adapter)
	if err != nil {
		return err
	}
	objects, pods := 0, 0
	var releases []*release
	for _, path := range given.manifests {
		release, err := readManifests(path, found)
		if err != nil {
			return err
		}
		for _, object := range release.objects {
			schemas.validate(object, found)
		}
		release.checkReferences(found)
		release.checkPortNames(found)
		release.checkAdapter(made, found)
		releases = append(releases, release)
		release.checkMetrics(page, found)
		checked, err := release.checkSettings(binary, image, given.namespace, found)
		if err != nil {
			return err
		}
		objects, pods = objects+len(release.objects), pods+checked
	}
	checkPromises(releases, found)
	fmt.Printf("%d manifests: %d objects valid by schema, %d pods configured\n",
		len(given.manifests), objects, pods)
	for _, path := range given.rehearse {
		release, err := readManifests(path, found)
		if err != nil {
			return err
		}
		ran, err := release.rehearse(binary, image, given.namespace)
		if err != nil {
			found.add(path, "rehearsal: %v", err)
			continue
		}
		fmt.Printf("%s: rehearsed with %d processes\n", path, ran)
	}
	for _, path := range given.compose {
		services, err := checkCompose(path, binary, image, found)
		if err != nil {
			return err
		}
		fmt.Printf("%s: parsed only, %d services configured\n", path, services)
	}
	for _, path := range given.settings {
		if _, err := binary.config(path, nil); err != nil {
			found.add(path, "%v", err)
		}
	}
	fmt.Printf("%d configuration files read\n", len(given.settings))
	for _, path := range given.rules {
		alerts, err := checkRules(path, page, found)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %d rules\n", path, alerts)
	}
	sources, err := readSources(given.sources)
	if err != nil {
		return err
	}
	commands := 0
	for _, path := range given.documents {
		of, err := checkDocument(path, binary, page, sources, found)
		if err != nil {
			return err
		}
		commands += of
	}
	fmt.Printf("%d documents: %d commands\n", len(given.documents), commands)
	return nil
}
