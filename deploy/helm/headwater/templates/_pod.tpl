{{- /* What is a pod's own. The kubelet puts $(NAME) in: no shell takes part, so the image needs
none. The index of a pod is its ordinal, counted from the start of its StatefulSet. */ -}}
{{- define "headwater.environment" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $serves := ne .group.component "controller" -}}
- name: HEADWATER_NODE_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
{{- if $serves }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if eq $v.external.type "nodePort" }}
- name: HOST_IP
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
{{- end }}
{{- if .group.zone }}
- name: HEADWATER_BROKER_RACK
  value: {{ .group.zone | quote }}
{{- else if $v.brokers.rackFromPodLabel }}
- name: HEADWATER_BROKER_RACK
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['{{ $v.brokers.rackFromPodLabel }}']
{{- end }}
{{- $advertised := list (printf "PLAINTEXT://$(POD_NAME).%s-%s.%s:9092" (include "headwater.fullname" $root) .group.component (include "headwater.domain" $root)) }}
{{- if ne $v.external.type "none" }}
{{- $host := include "headwater.externalHost" $root | replace "{node}" "$(HEADWATER_NODE_ID)" }}
{{- $port := printf "%v" $v.external.port }}
{{- if eq $v.external.type "nodePort" }}
{{- $port = printf "%s$(HEADWATER_NODE_ID)" $v.external.nodePortPrefix }}
{{- end }}
{{- $advertised = append $advertised (printf "EXTERNAL://%s:%s" $host $port) }}
{{- end }}
- name: HEADWATER_ADVERTISED_LISTENERS
  value: {{ join "," $advertised | quote }}
{{- else }}
# The image's own would name a listener that a controller has not.
- name: HEADWATER_ADVERTISED_LISTENERS
  value: ""
{{- end }}
{{- with $v.objectStore.url }}
# Here and not in the file: the operator's commands in this pod find the store by it, too.
- name: HEADWATER_OBJECT_STORE_URL
  value: {{ . | quote }}
{{- end }}
{{- if $v.controllers.tls.secretName }}
# Here and not in the file: the operator's commands in this pod reach the controllers by it, too.
- name: HEADWATER_CONTROLLER_TLS_CERTIFICATE_PATH
  value: /etc/headwater-tls/tls.crt
- name: HEADWATER_CONTROLLER_TLS_KEY_PATH
  value: /etc/headwater-tls/tls.key
- name: HEADWATER_CONTROLLER_TLS_CA_PATH
  value: /etc/headwater-tls/ca.crt
{{- end }}
{{- with $v.log }}
- name: HEADWATER_LOG
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "headwater.pod" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $group := .group -}}
{{- $serves := ne $group.component "controller" -}}
{{- $votes := ne $group.component "broker" -}}
{{- $sizes := ternary $v.brokers $v.controllers $serves -}}
{{- $placing := ternary $v.controllers $v.brokers $votes -}}
{{- $volume := or $votes (eq $v.brokers.wal "disk") -}}
metadata:
  labels:
    {{- include "headwater.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $group.component }}
    {{- with $group.zone }}
    headwater-zone: {{ . }}
    {{- end }}
    {{- if $v.workloadIdentity.azure.clientId }}
    azure.workload.identity/use: "true"
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: headwater
    checksum/config: {{ include "headwater.toml" (dict "root" $root "component" $group.component) | sha256sum }}
    {{- with $placing.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "headwater.serviceAccount" $root }}
  automountServiceAccountToken: false
  # Links would become HEADWATER_… variables, and an unknown setting stops the start.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add 30 (int $v.brokers.shutdownTimeoutSeconds) }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 9092
    runAsGroup: 9092
    fsGroup: 9092
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with $v.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $placing.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if or $placing.nodeSelector $group.zone }}
  nodeSelector:
    {{- with $group.zone }}
    topology.kubernetes.io/zone: {{ . }}
    {{- end }}
    {{- with $placing.nodeSelector }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with $placing.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $placing.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- if not $group.zone }}
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: {{ $placing.topologySpread }}
      labelSelector:
        matchLabels:
          {{- include "headwater.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $group.component }}
    {{- end }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: {{ $placing.topologySpread }}
      labelSelector:
        matchLabels:
          {{- include "headwater.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $group.component }}
  containers:
    - name: headwater
      image: {{ include "headwater.image" $root }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: ["serve", "--config", "/etc/headwater/headwater.toml"]
      env:
        {{- include "headwater.environment" . | nindent 8 }}
      {{- with $v.objectStore.existingSecret }}
      envFrom:
        - secretRef:
            name: {{ . }}
      {{- end }}
      ports:
        {{- if $serves }}
        - name: kafka
          containerPort: 9092
        {{- if ne $v.external.type "none" }}
        - name: kafka-external
          containerPort: 9094
        {{- end }}
        {{- end }}
        {{- if $votes }}
        - name: controller
          containerPort: 9093
        {{- end }}
        - name: admin
          containerPort: 9644
      # Alive until it has failed for good: a broker that waits for the store, the quorum or an
      # earlier process's lease is alive, and killing it would not help.
      startupProbe:
        httpGet:
          path: /healthz
          port: admin
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet:
          path: /healthz
          port: admin
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 3
      resources:
        requests:
          cpu: {{ $sizes.cpu.request }}
          memory: {{ $sizes.memoryMiB }}Mi
        limits:
          {{- with $sizes.cpu.limit }}
          cpu: {{ . }}
          {{- end }}
          memory: {{ $sizes.memoryMiB }}Mi
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: config
          mountPath: /etc/headwater
          readOnly: true
        {{- if $v.controllers.tls.secretName }}
        - name: tls
          mountPath: /etc/headwater-tls
          readOnly: true
        {{- end }}
        - name: data
          mountPath: /var/lib/headwater
  volumes:
    - name: config
      configMap:
        name: {{ include "headwater.fullname" $root }}-{{ $group.component }}
    {{- with $v.controllers.tls }}
    {{- if .secretName }}
    - name: tls
      secret:
        secretName: {{ .secretName }}
        defaultMode: 0440
        items:
          - key: {{ .certificateKey }}
            path: tls.crt
          - key: {{ .privateKeyKey }}
            path: tls.key
          - key: {{ .caKey }}
            path: ca.crt
    {{- end }}
    {{- end }}
    {{- if not $volume }}
    # Nothing durable: the node's lock and scratch. It goes with the pod, and may.
    - name: data
      emptyDir:
        sizeLimit: 1Gi
    {{- end }}
{{- end -}}
