{{- /* The configuration of one component. What differs from pod to pod comes as environment. */ -}}
{{- define "headwater.toml" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $serves := ne .component "controller" -}}
{{- $votes := ne .component "broker" -}}
{{- $sizes := ternary $v.brokers $v.controllers $serves -}}
# Rendered by the chart: change its values, not this.
{{- if and $serves $votes }}
"process.roles" = "broker,controller"
{{- else }}
"process.roles" = {{ .component | quote }}
{{- end }}
"data.dir" = "/var/lib/headwater/data"
"admin.listen" = "0.0.0.0:9644"
{{- $listeners := list }}
{{- if $serves }}
{{- $listeners = append $listeners "PLAINTEXT://0.0.0.0:9092" }}
{{- if ne $v.external.type "none" }}
{{- $listeners = append $listeners "EXTERNAL://0.0.0.0:9094" }}
{{- end }}
{{- end }}
{{- if $votes }}
{{- $listeners = append $listeners "CONTROLLER://0.0.0.0:9093" }}
{{- end }}
"listeners" = {{ join "," $listeners | quote }}
{{- if $votes }}
"controller.listener.names" = "CONTROLLER"
{{- end }}
"controller.quorum.voters" = {{ include "headwater.quorum" $root | quote }}
"memory.budget.bytes" = {{ include "headwater.budget" $sizes }}
{{- if $serves }}
"wal.backend" = {{ $v.brokers.wal | quote }}
{{- end }}
"shutdown.timeout.ms" = {{ mul 1000 (int $v.brokers.shutdownTimeoutSeconds) }}
{{- $settings := deepCopy $v.config }}
{{- if $votes }}
{{- $settings = merge (deepCopy $v.controllers.config) $settings }}
{{- end }}
{{- if $serves }}
{{- $settings = merge (deepCopy $v.brokers.config) $settings }}
{{- end }}
{{- range $name := keys $settings | sortAlpha }}
{{ include "headwater.setting" (dict "name" $name "value" (get $settings $name)) }}
{{- end }}
{{- end -}}
