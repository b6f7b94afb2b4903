package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"sigs.k8s.io/yaml"
)

var english = message.NewPrinter(language.English)

// schemas knows what each kind may look like.
type schemas struct {
	kinds map[string]*jsonschema.Schema
}

func kindOf(apiVersion, kind string) string { return apiVersion + " " + kind }

// loadSchemas reads Kubernetes' own OpenAPI and the definitions of custom resources.
func loadSchemas(openapi string, crds []string) (*schemas, error) {
	content, err := os.ReadFile(openapi)
	if err != nil {
		return nil, err
	}
	var document struct {
		Definitions map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(content, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", openapi, err)
	}
	compiler := jsonschema.NewCompiler()
	strict(map[string]any(document.Definitions))
	resource := map[string]any{"definitions": document.Definitions}
	if err := compiler.AddResource("kubernetes.json", resource); err != nil {
		return nil, err
	}
	loaded := &schemas{kinds: map[string]*jsonschema.Schema{}}
	for name, definition := range document.Definitions {
		for _, kind := range kindsOf(definition) {
			schema, err := compiler.Compile("kubernetes.json#/definitions/" + name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			loaded.kinds[kind] = schema
		}
	}
	for _, path := range crds {
		if err := loaded.addCustom(compiler, path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return loaded, nil
}

func kindsOf(definition any) []string {
	listed, _ := definition.(map[string]any)["x-kubernetes-group-version-kind"].([]any)
	var kinds []string
	for _, entry := range listed {
		entry := entry.(map[string]any)
		version := entry["version"].(string)
		if group := entry["group"].(string); group != "" {
			version = group + "/" + version
		}
		kinds = append(kinds, kindOf(version, entry["kind"].(string)))
	}
	return kinds
}

func (s *schemas) addCustom(compiler *jsonschema.Compiler, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var definition struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(content, &definition); err != nil {
		return err
	}
	for _, version := range definition.Spec.Versions {
		schema := version.Schema.OpenAPIV3Schema
		// The API server knows more of metadata than a custom resource says.
		metadata := schema["properties"].(map[string]any)["metadata"].(map[string]any)
		strict(schema)
		delete(metadata, "additionalProperties")
		name := definition.Spec.Group + "/" + version.Name + "/" + definition.Spec.Names.Kind + ".json"
		if err := compiler.AddResource(name, schema); err != nil {
			return err
		}
		compiled, err := compiler.Compile(name)
		if err != nil {
			return err
		}
		s.kinds[kindOf(definition.Spec.Group+"/"+version.Name, definition.Spec.Names.Kind)] = compiled
	}
	return nil
}

// strict closes every object with named fields, as the API server does when asked to be strict,
// and says in JSON schema's words what OpenAPI leaves to formats.
func strict(node any) {
	switch node := node.(type) {
	case map[string]any:
		if properties, ok := node["properties"].(map[string]any); ok {
			_, open := node["additionalProperties"]
			keeps, _ := node["x-kubernetes-preserve-unknown-fields"].(bool)
			if !open && !keeps {
				node["additionalProperties"] = false
			}
			for _, property := range properties {
				strict(property)
			}
		}
		intOrString, _ := node["x-kubernetes-int-or-string"].(bool)
		if format, _ := node["format"].(string); format == "int-or-string" || intOrString {
			node["type"] = []any{"string", "integer"}
		}
		if about, _ := node["description"].(string); strings.HasPrefix(about, "Quantity is a fixed-point") {
			node["type"] = []any{"string", "number"}
		}
		if _, named := node["properties"]; !named {
			for key, value := range node {
				if key != "default" && key != "enum" && key != "example" {
					strict(value)
				}
			}
		}
		for _, key := range []string{"items", "additionalProperties", "allOf", "anyOf", "oneOf"} {
			if value, ok := node[key]; ok && node["properties"] != nil {
				strict(value)
			}
		}
	case []any:
		for _, value := range node {
			strict(value)
		}
	}
}

// validate holds one object against its schema; a kind without one is a finding.
func (s *schemas) validate(object object, found *findings) {
	schema, known := s.kinds[kindOf(object.apiVersion(), object.kind())]
	if !known {
		found.add(object.place(), "no schema for %s", kindOf(object.apiVersion(), object.kind()))
		return
	}
	if object.name() == "" {
		found.add(object.place(), "has no name")
	}
	err := schema.Validate(map[string]any(object.content))
	var invalid *jsonschema.ValidationError
	switch {
	case err == nil:
	case errors.As(err, &invalid):
		leaves(invalid, func(leaf *jsonschema.ValidationError) {
			found.add(object.place(), "/%s: %s", strings.Join(leaf.InstanceLocation, "/"),
				leaf.ErrorKind.LocalizedString(english))
		})
	default:
		found.add(object.place(), "%v", err)
	}
}

func leaves(invalid *jsonschema.ValidationError, visit func(*jsonschema.ValidationError)) {
	if len(invalid.Causes) == 0 {
		visit(invalid)
	}
	for _, cause := range invalid.Causes {
		leaves(cause, visit)
	}
}
