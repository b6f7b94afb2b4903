{{- define "headwater.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "headwater.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "headwater.labels" -}}
{{ include "headwater.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "headwater.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "headwater.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create -}}
{{ include "headwater.fullname" . }}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- /* The component that holds voters: controllers, or nodes that are both. */ -}}
{{- define "headwater.voters" -}}
{{- if eq .Values.mode "combined" -}}node{{- else -}}controller{{- end -}}
{{- end -}}

{{- /* The component that clients speak to. */ -}}
{{- define "headwater.serving" -}}
{{- if eq .Values.mode "combined" -}}node{{- else -}}broker{{- end -}}
{{- end -}}

{{- /* First and only place where node ids are dealt out: voters from 1, brokers from 100, the
brokers of the second zone from 200 and so on. A pod's ordinal is its node id. */ -}}
{{- define "headwater.groups" -}}
{{- $groups := list -}}
{{- if eq .Values.mode "combined" -}}
{{- $groups = append $groups (dict "suffix" "node" "component" "node" "zone" "" "start" 1) -}}
{{- else -}}
{{- $groups = append $groups (dict "suffix" "controller" "component" "controller" "zone" "" "start" 1) -}}
{{- if .Values.brokers.zones -}}
{{- range $i, $zone := .Values.brokers.zones -}}
{{- $groups = append $groups (dict "suffix" (printf "broker-%s" $zone) "component" "broker" "zone" $zone "start" (mul 100 (add 1 $i))) -}}
{{- end -}}
{{- else -}}
{{- $groups = append $groups (dict "suffix" "broker" "component" "broker" "zone" "" "start" 100) -}}
{{- end -}}
{{- end -}}
{{- dict "groups" $groups | toJson -}}
{{- end -}}

{{- /* How many pods of the serving component there may ever be, per StatefulSet. */ -}}
{{- define "headwater.mostReplicas" -}}
{{- if eq .Values.mode "combined" -}}
{{ .Values.controllers.replicas }}
{{- else if .Values.brokers.autoscaling.enabled -}}
{{ .Values.brokers.autoscaling.maxReplicas }}
{{- else -}}
{{ .Values.brokers.replicas }}
{{- end -}}
{{- end -}}

{{- define "headwater.domain" -}}
{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{- define "headwater.quorum" -}}
{{- $name := printf "%s-%s" (include "headwater.fullname" .) (include "headwater.voters" .) -}}
{{- $domain := include "headwater.domain" . -}}
{{- $voters := list -}}
{{- range $i := until (int .Values.controllers.replicas) -}}
{{- $id := add 1 $i -}}
{{- $voters = append $voters (printf "%d@%s-%d.%s.%s:9093" $id $name $id $name $domain) -}}
{{- end -}}
{{- join "," $voters -}}
{{- end -}}

{{- /* One line of TOML. Helm reads every number as a float; a whole one must not become 1e+09. */ -}}
{{- define "headwater.setting" -}}
{{- $value := .value -}}
{{- if kindIs "float64" $value -}}
{{- if eq (floor $value) $value -}}
{{ .name | quote }} = {{ printf "%.0f" $value }}
{{- else -}}
{{ .name | quote }} = {{ $value }}
{{- end -}}
{{- else if or (kindIs "bool" $value) (kindIs "int" $value) (kindIs "int64" $value) -}}
{{ .name | quote }} = {{ $value }}
{{- else -}}
{{ .name | quote }} = {{ $value | toString | toJson }}
{{- end -}}
{{- end -}}

{{- define "headwater.budget" -}}
{{- $bytes := div (mul (int .memoryMiB) 1048576 (int .memoryBudgetPercent)) 100 -}}
{{- if lt (int64 $bytes) 268435456 -}}
{{- fail (printf "memoryMiB %v at %v %% leaves %d bytes for memory.budget.bytes; at least 268435456 are needed" .memoryMiB .memoryBudgetPercent $bytes) -}}
{{- end -}}
{{- $bytes -}}
{{- end -}}

{{- define "headwater.externalHost" -}}
{{- if .Values.external.host -}}
{{ .Values.external.host }}
{{- else if eq .Values.external.type "loadBalancer" -}}
{{ fail "external.host must name each broker's balancer, with {node} in it" }}
{{- else -}}
$(HOST_IP)
{{- end -}}
{{- end -}}

{{- /* What cannot work is refused before it is installed. */ -}}
{{- define "headwater.check" -}}
{{- $v := .Values -}}
{{- if not (has (int $v.controllers.replicas) (list 1 3 5)) -}}
{{- fail "controllers.replicas must be 1, 3 or 5" -}}
{{- end -}}
{{- $alone := and (eq $v.mode "combined") (eq (int $v.controllers.replicas) 1) -}}
{{- if and (not $v.objectStore.url) (not $alone) -}}
{{- fail "objectStore.url is empty: several nodes need a store that all of them reach" -}}
{{- end -}}
{{- if and (not $v.objectStore.url) (eq $v.brokers.wal "object") -}}
{{- fail "brokers.wal is object, so objectStore.url must name a bucket" -}}
{{- end -}}
{{- if and $v.brokers.autoscaling.enabled (or (eq $v.mode "combined") (eq $v.brokers.wal "disk")) -}}
{{- fail "brokers.autoscaling needs mode separate and the object WAL: a disk WAL stays behind on its volume" -}}
{{- end -}}
{{- if and (eq $v.mode "combined") $v.brokers.zones -}}
{{- fail "brokers.zones needs mode separate" -}}
{{- end -}}
{{- if gt (int (include "headwater.mostReplicas" .)) 99 -}}
{{- fail "at most 99 brokers a zone: node ids are dealt out by hundreds" -}}
{{- end -}}
{{- if and (eq $v.external.type "nodePort") (eq $v.mode "combined") -}}
{{- fail "external.type nodePort needs mode separate: ports are made of three-digit node ids" -}}
{{- end -}}
{{- $identities := compact (list $v.workloadIdentity.aws.roleArn $v.workloadIdentity.gcp.serviceAccount $v.workloadIdentity.azure.clientId) -}}
{{- if gt (len $identities) 1 -}}
{{- fail "workloadIdentity names more than one cloud" -}}
{{- end -}}
{{- $own := list "node.id" "broker.id" "process.roles" "broker.rack" "data.dir" "log.dir" "log.dirs" "listeners" "advertised.listeners" "controller.listener.names" "controller.quorum.voters" "controller.quorum.bootstrap.servers" "controller.tls.certificate.path" "controller.tls.key.path" "controller.tls.ca.path" "admin.listen" "memory.budget.bytes" "wal.backend" "object.store.url" "object.store.access.key.id" "object.store.secret.access.key" "shutdown.timeout.ms" -}}
{{- range $name := concat (keys $v.config) (keys $v.controllers.config) (keys $v.brokers.config) | uniq | sortAlpha -}}
{{- if has $name $own -}}
{{- fail (printf "config: %s is computed by the chart, or is a secret; see README.md" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
