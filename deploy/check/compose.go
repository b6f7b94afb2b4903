package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// checkCompose parses a compose file by its specification, and asks the product about each service
// that runs it. Nothing is started.
func checkCompose(
	path string, binary *binary, image map[string]string, found *findings,
) (int, error) {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithName("check"),
		cli.WithInterpolation(true))
	if err != nil {
		return 0, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		found.add(path, "%v", err)
		return 0, nil
	}
	cluster := nodes{}
	for _, name := range project.ServiceNames() {
		service := project.Services[name]
		if service.Build == nil {
			continue
		}
		place := fmt.Sprintf("%s: service %s", path, name)
		environment := map[string]string{}
		for key, value := range image {
			environment[key] = value
		}
		for key, value := range service.Environment {
			if value != nil {
				environment[key] = *value
			}
		}
		file, err := composeConfig(project, service)
		if err != nil {
			found.add(place, "%v", err)
			continue
		}
		settings, err := binary.config(file, environment)
		if err != nil {
			found.add(place, "%v", err)
			continue
		}
		cluster.add(place, name, settings, found)
	}
	cluster.check(found)
	if len(cluster) == 0 {
		found.add(path, "runs no node")
	}
	return len(cluster), nil
}

// composeConfig is the file on this machine that the service is started with.
func composeConfig(project *types.Project, service types.ServiceConfig) (string, error) {
	command := service.Command
	if len(command) != 3 || command[0] != "serve" || command[1] != "--config" {
		return "", fmt.Errorf("command %v is not understood", command)
	}
	for _, config := range service.Configs {
		if config.Target != command[2] {
			continue
		}
		source := project.Configs[config.Source]
		if source.Content == "" {
			return source.File, nil
		}
		file, err := os.CreateTemp("", "headwater-check-*.toml")
		if err != nil {
			return "", err
		}
		_, err = file.WriteString(source.Content)
		return file.Name(), err
	}
	return "", fmt.Errorf("%s is not mounted: %s", command[2], filepath.Base(strings.Join(command, " ")))
}
